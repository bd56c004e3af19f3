"""Train, validation and test, as `datasets` itself tells them apart."""

from pathlib import PurePath

import pytest
from datasets.data_files import SPLIT_KEYWORDS, DataFilesDict, get_data_patterns

from job.tables.parts import KEYWORDS, choose_splits, part_of_path, sort_into_parts

LAYOUTS = [
    ["train.csv", "test.csv"],
    ["my_train_file.csv", "my_dev_file.csv", "eval.csv"],
    ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/test-00000-of-00001.csv"],
    ["train/a.csv", "train/test_notes.csv", "validation/a.csv"],
    ["de/training/1.csv", "de/testing/1.csv"],
    ["a.csv", "b.csv"],
    ["trainer.csv", "latest.csv", "devices.csv"],
]


def test_the_words_are_those_of_datasets():
    assert {name: tuple(words) for name, words in SPLIT_KEYWORDS.items()} == KEYWORDS


@pytest.mark.parametrize("names", LAYOUTS, ids=lambda names: names[0])
def test_files_are_sorted_as_datasets_sorts_them(names, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("input\nx\n")
    theirs = DataFilesDict.from_patterns(get_data_patterns(str(tmp_path)), base_path=str(tmp_path))
    expected = {str(part): set(paths) for part, paths in theirs.items()}
    found = sort_into_parts([PurePath(name) for name in names])
    assert {part: {str(tmp_path / path) for path in paths} for part, paths in found.items()} == expected


def test_names_are_compared_without_their_case_and_the_innermost_folder_decides():
    assert part_of_path(PurePath("Test/TRAIN.csv")) == "test"
    assert part_of_path(PurePath("test/train/x.csv")) == "train"
    assert part_of_path(PurePath("Eval 2.xlsx")) == "test"
    assert part_of_path(PurePath("contest.csv")) is None


def test_files_that_tell_no_part_are_trained_on_unless_others_are_named_so():
    mine, test, train = (PurePath(f"{name}.csv") for name in ("mine", "test", "train"))
    assert sort_into_parts([mine, test]) == {"train": [mine], "test": [test]}
    assert sort_into_parts([mine, test, train]) == {"other": [mine], "test": [test], "train": [train]}
    assert sort_into_parts([test]) == {"train": [test]}


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["train", "test"], "train", ("train", "test")),
        (["train", "validation", "test"], "train", ("train", "validation")),
        (["train"], "train", ("train", None)),
        (["train", "validation"], "test", ("validation", None)),
        (["train", "test"], "test", ("test", None)),
        (["train_sft", "test_gen", "test_sft"], "train_sft", ("train_sft", "test_sft")),
        (["train_sft", "test_sft"], "train", (None, None)),
        (["de", "test"], "de", ("de", None)),
    ],
)
def test_the_held_out_split_is_validation_then_test_of_the_same_kind(names, wanted, expected):
    assert choose_splits(names, wanted) == expected
