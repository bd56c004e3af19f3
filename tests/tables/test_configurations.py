"""The README.md of a dataset says which file is which part, as `datasets` reads it."""

from pathlib import Path

import pytest

from job.errors import DataError
from job.tables.configurations import files_of_card

FRONT = "---\nlicense: mit\nconfigs:\n{}---\n# Title\n"


def write(configs: str, *files: str) -> Path:
    Path("README.md").write_text(FRONT.format(configs))
    for name in files:
        Path(name).touch()
    return Path()


def test_patterns_are_files_by_part():
    folder = write(
        "- config_name: default\n  data_files:\n  - split: train\n    path: x*.csv\n  - split: dev\n    path:\n    - y.csv\n",
        *("x1.csv", "x2.csv", "y.csv", "z.csv"),
    )
    assert files_of_card("", folder) == {"train": [Path("x1.csv"), Path("x2.csv")], "validation": [Path("y.csv")]}


def test_one_list_of_files_is_for_training_and_the_default_is_taken_of_several():
    configs = "- config_name: a\n  data_files: a.csv\n- config_name: b\n  default: true\n  data_files: b.csv\n"
    folder = write(configs, "a.csv", "b.csv")
    assert files_of_card("", folder) == {"train": [Path("b.csv")]}


def test_several_without_a_default_are_told():
    folder = write("- config_name: de\n  data_files: a.csv\n- config_name: en\n  data_files: b.csv\n", "a.csv", "b.csv")
    with pytest.raises(DataError, match=r'^W: README.md lists several datasets: "de", "en"\. Name the folder'):
        files_of_card("W", folder)


@pytest.mark.parametrize("text", [None, "", "# Title", "---\n: [\n---\n", "---\nconfigs: 5\n---\n", "---\nlicense: mit\n---\n"])
def test_a_readme_that_lists_nothing_counts_for_nothing(text):
    if text is not None:
        Path("README.md").write_text(text)
    assert files_of_card("", Path()) is None
