"""A compressed file is read as what is in it."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pytest

from job.errors import DataError
from job.tables.unpack import inner_name, unpacked

TEXT = b"input\nx\n"


def write_zip(name: str, **files: bytes) -> Path:
    with zipfile.ZipFile(name, "w") as archive:
        for inner, content in files.items():
            archive.writestr(inner, content)
    return Path(name)


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".XZ", lzma.compress)])
def test_a_compressed_file_is_there_unpacked_for_as_long_as_it_is_read(ending, compress):
    path = Path(f"a.csv{ending}")
    path.write_bytes(compress(TEXT))
    with unpacked("", path) as inner:
        assert (inner.name, inner.read_bytes()) == ("a.csv", TEXT)
    assert not inner.exists()
    assert inner_name(path) == "a.csv"


def test_the_one_table_of_a_zip_is_found_among_what_systems_put_beside_it():
    path = write_zip("a.zip", **{"folder/": b"", "folder/b.csv": TEXT, "__MACOSX/folder/._b.csv": b"-", "folder/.DS_Store": b"-"})
    with unpacked("", path) as inner:
        assert (inner.name, inner.read_bytes()) == ("b.csv", TEXT)


def test_a_member_of_a_zip_is_written_nowhere_else():
    path = write_zip("a.zip", **{"../../outside.csv": TEXT})
    with pytest.raises(DataError, match="holds nothing to read"), unpacked("", path):
        pass
    assert not Path("../../outside.csv").exists()


def test_what_is_not_compressed_is_as_it_is():
    with unpacked("", Path("a.csv")) as inner:
        assert inner == Path("a.csv")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv.gz", gzip.compress(TEXT, mtime=0)[:-5], "a.csv.gz cannot be unpacked (Compressed file ended before"),
        ("a.csv.gz", b"input", "a.csv.gz cannot be unpacked (Not a gzipped file (b'in')). Pack it once more, or give it unpacked."),
        ("a.csv.bz2", b"input", "a.csv.bz2 cannot be unpacked (Invalid data stream)"),
        ("a.csv.xz", b"input", "a.csv.xz cannot be unpacked (Input format not supported by decoder)"),
        ("a.zip", b"input", "a.zip cannot be unpacked (File is not a zip file)"),
    ],
)
def test_a_damaged_archive_is_told(name, content, said):
    Path(name).write_bytes(content)
    with pytest.raises(DataError) as caught, unpacked(f"TRAIN_DATA={name}", Path(name)):
        pass
    assert str(caught.value).startswith(f"TRAIN_DATA={name}: {said}")


def test_texts_that_explain_the_table_of_a_zip_are_none():
    with unpacked("", write_zip("a.zip", **{"README.txt": b"x", "sub/LICENSE": b"y", "sub/a.csv": b"z"})) as path:
        assert (path.name, path.read_bytes()) == ("a.csv", b"z")


def test_a_zip_of_two_tables_is_refused_with_their_names():
    path = write_zip("a.zip", **{"b.csv": TEXT, "c.csv": TEXT})
    with pytest.raises(
        DataError, match=r"^W: a.zip holds b.csv, c.csv; a zip may hold one table. Unpack it, and name the folder.$"
    ):
        unpacked("W", path).__enter__()
