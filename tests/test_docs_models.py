"""docs/models.md names every family that the job is tried on; `make test-zoo` writes what was shown of each."""

import re
from pathlib import Path

from tests.zoo.families import FAMILIES, published

PAGE = Path(__file__).parents[1] / "docs" / "models.md"


def test_every_family_has_its_row_on_the_page_of_models():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {name: published(name) for name in FAMILIES}, "run: make test-zoo"
    assert len(rows) == len(FAMILIES)


def test_every_family_says_which_published_models_belong_to_it():
    assert {name for name in FAMILIES if len(published(name)) < 5} == set()
