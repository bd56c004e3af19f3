"""The licence that a base's card names, from its folder or the hub's cache."""

import pytest

from job.model import licence
from job.model.licence import read_licence
from job.model.load import BaseModel


@pytest.mark.parametrize(
    ("front", "wanted"),
    [
        ("license: apache-2.0", "apache-2.0"), ("license:\n- mit\n- cc-by-4.0", "mit, cc-by-4.0"), ("language: en", None),
        ("license: other\nlicense_name: gemma\nlicense_link: x", "gemma"), ("license: other", "other"), ("license: [", None),
        ("license: mit\nmodel-index: 3", "mit"),
    ],
)  # fmt: skip
def test_the_card_says_it(tmp_path, monkeypatch, front, wanted):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
    assert read_licence(BaseModel(str(tmp_path))) == wanted
    asked = []

    def cached(*arguments, **named):
        asked.append((arguments, named))
        return str(tmp_path / "README.md")

    monkeypatch.setattr(licence, "try_to_load_from_cache", cached)
    assert read_licence(BaseModel("google/flan-t5-xl", revision="v1")) == wanted
    assert asked == [(("google/flan-t5-xl", "README.md"), {"revision": "v1"})]


def test_without_a_card_it_is_not_known(tmp_path, monkeypatch):
    assert read_licence(BaseModel(str(tmp_path))) is None
    monkeypatch.setattr(licence, "try_to_load_from_cache", lambda *_, **__: None)
    assert read_licence(BaseModel("google/flan-t5-xl")) is None
    (tmp_path / "README.md").write_text("# no metadata\n")
    assert read_licence(BaseModel(str(tmp_path))) is None
