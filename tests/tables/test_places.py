"""What a person wrote, and the files that are meant: found, or one line that says what is there instead."""

import os
from pathlib import Path

import pytest

from job.errors import DataError, InputMissing, JobError
from job.tables.file_rows import printable
from job.tables.places import Found, find_files, place_errors
from job.tables.read import SUFFIXES

ROWS = "input,output\nx,y\n"


def write(*names: str) -> None:
    """Files of different content each."""
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(ROWS + f"{number},{name}\n")


def find(location: str) -> Found | None:
    with place_errors(f"TRAIN_DATA={printable(location)}"):
        return find_files(f"TRAIN_DATA={printable(location)}", location, SUFFIXES)


def names(location: str) -> dict[str, list[str]]:
    return {part: [str(path) for path in paths] for part, paths in find(location).parts.items()}


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("data/mine", "data/mine.XLSX"),
        ("data/MINE", "data/mine.XLSX"),
        ("data\\mine.XLSX", "data/mine.XLSX"),
        ("data/mine.XLSX/", "data/mine.XLSX"),
        (' "data/mine.XLSX"\n', "data/mine.XLSX"),
        ("other", "other.csv.gz"),
        ("data/odd[1].csv", "data/odd[1].csv"),
        ("data/Mine.xlsx", "data/mine.XLSX"),
        ("data/\u00fcben.csv", "data/u\u0308ben.csv"),
    ],
)
def test_a_file_is_found_however_its_path_is_written(written, found):
    write("data/mine.XLSX", "data/odd[1].csv", "other.csv.gz", "data/u\u0308ben.csv")
    assert names(written) == {"train": [found]}
    told = find(written).notes
    assert bool(told) == (str(Path(written)) != found)


def test_a_path_may_begin_at_home_or_be_that_of_a_file_address(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("mine.csv")
    assert names("~/mine.csv") == {"train": [str(tmp_path / "mine.csv")]}
    assert names(f"file://{tmp_path}/mine.csv") == {"train": [str(tmp_path / "mine.csv")]}


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("data/nothing.csv", 'no such file. In data/ there is "mine.csv", "yours.csv". Check the path; in a container it'),
        ("data/mnie.xlsx", 'no such file. In data/ there is "mine.csv"'),
        ("data/nothing", 'no such file. In data/ there is "mine.csv", "yours.csv".'),
        ("twice/a", 'no such file, but "a.csv", "a.json". Name one of them.'),
        ("/nowhere/at/all.csv", "no such file. Check the path; in a container it begins with /data/."),
        ("C:\\Users\\me\\mine.csv", "no such file. Paths of Windows mean nothing here. Check the path"),
        ("s3://bucket/mine.csv", "addresses are not read. Download it and name the file; for the hub, name the dataset."),
        ("data/*.parquet", "no file there that ends in"),
        ("bare", "no file there that ends in"),
        ("x" * 5000, "cannot be opened: File name too long."),
        (f"data/{'x' * 5000}.csv", "cannot be opened: File name too long."),
        ("a\0b.csv", "no path is written so (embedded null byte)."),
        ("~nobody-of-that-name/a.csv", "no path is written so (Could not determine home directory.)."),
        ("data/\udcff.csv", "no such file."),
        ("", "no such file."),
        ("pipe.csv", "neither a file nor a folder but a device, a pipe or a socket. Name a file."),
        ("/dev/null", "neither a file nor a folder"),
        ("loop", "cannot be opened: Too many levels of symbolic links."),
        ("torn.csv", "a link to gone.csv, which is not there. Put the file there."),
        ("torn", "b.csv is a link to a file that is not there."),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_is(location, said):
    write("data/mine.csv", "data/yours.csv", "twice/a.csv", "twice/a.json", "bare/.keep", "bare/~$mine.xlsx")
    os.mkfifo("pipe.csv")
    Path("loop").symlink_to("loop")
    Path("torn.csv").symlink_to("gone.csv")
    Path("torn").mkdir()
    Path("torn/b.csv").symlink_to("gone.csv")
    with pytest.raises(InputMissing) as caught:
        find(location)
    message = str(caught.value)
    assert said in message
    assert len(message.splitlines()) == 1
    assert len(message) < 700
    message.encode()


@pytest.mark.parametrize("location", ["google/dataset", "dataset", "org/data-v1.5"])
def test_a_name_without_a_folder_of_that_name_may_be_one_of_the_hub(location):
    assert find(location) is None


def test_a_path_whose_folder_exists_is_never_sent_to_the_hub():
    write("google/mine.csv")
    with pytest.raises(InputMissing, match=r'In google/ there is "mine.csv"'):
        find("google/dataset")


def test_a_folder_is_read_with_its_folders_but_without_what_systems_and_office_programs_leave():
    write("d/b.csv", "d/sub/deep/a.jsonl", "d/~$b.xlsx", "d/.DS_Store", "d/.hidden/c.csv", "d/Thumbs.db", "d/__MACOSX/._b.csv")
    write("d/README.txt", "d/LICENSE", "d/dataset_info.json", "d/.~lock.b.csv#", "d/notes.docx")
    (Path("d") / "again").symlink_to(Path("d").resolve())
    found = find("d")
    assert found.parts == {"train": [Path("d/b.csv"), Path("d/sub/deep/a.jsonl")]}
    assert found.notes == ('"notes.docx": no table, not read.',)
    assert [found.name(path) for path in found.parts["train"]] == ["b.csv", "sub/deep/a.jsonl"]


@pytest.mark.parametrize("location", ["d", "d/", "d/*", "d/**/*.csv"])
def test_parts_of_a_folder_and_of_a_pattern_are_told_apart(location):
    write("d/train.csv", "d/test.csv", "d/validation.csv")
    assert names(location) == {"train": ["d/train.csv"], "test": ["d/test.csv"], "validation": ["d/validation.csv"]}


def test_a_file_that_is_named_is_what_is_meant_whatever_its_name():
    write("d/train.csv", "d/test.csv")
    assert names("d/test.csv") == {"train": ["d/test.csv"]}


def test_the_readme_of_a_dataset_says_which_file_is_which():
    write("d/x.csv", "d/y.csv", "d/z.csv")
    files = "  - split: train\n    path: x.csv\n  - split: test\n    path: y.csv\n"
    Path("d/README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    assert names("d") == {"train": ["d/x.csv"], "test": ["d/y.csv"]}


def test_a_copy_is_left_out_and_told_and_a_table_in_two_formats_is_refused():
    write("d/data.csv", "d/other.csv")
    Path("d/data (1).csv").write_bytes(Path("d/data.csv").read_bytes())
    assert find("d").parts == {"train": [Path("d/data.csv"), Path("d/other.csv")]}
    assert find("d").notes == ("data (1).csv: the same as data.csv, and left out.",)
    write("d/data.jsonl.gz")
    with pytest.raises(DataError, match=r"data.csv and data.jsonl.gz look like the same table twice. Take one of them away"):
        find("d")


@pytest.mark.parametrize(("function", "location"), [("stat", "d"), ("scandir", "d"), ("scandir", "d/mine")])
def test_what_the_user_may_not_enter_is_told(monkeypatch, function, location):
    """Injected: who runs the tests may be root."""
    write("d/a.csv")
    usual = getattr(os, function)

    def refuse(path, *args, **more):
        if str(path).rstrip("/") == "d":
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *args, **more)

    monkeypatch.setattr(os, function, refuse)
    if function == "scandir":
        monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(JobError, match=r"^TRAIN_DATA=d(/mine)?: d: cannot be opened: Permission denied\.$") as caught:
        find(location)
    assert caught.value.exit_code == 66
