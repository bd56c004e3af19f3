"""A compressed file comes back compressed the same way."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pytest

from job.tables.repack import repack
from job.tables.unpack import unpacked


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_the_same_compression_holds_the_new_content(suffix, opener):
    with opener(f"a.csv{suffix}", "wb") as file:
        file.write(b"old")
    Path("new.csv").write_bytes(b"new" * 1000)
    repack(Path("new.csv"), Path(f"a.csv{suffix}"), Path(f"b.csv{suffix}"))
    with unpacked("X", Path(f"b.csv{suffix}")) as inner:
        assert inner.read_bytes() == b"new" * 1000
    assert Path(f"b.csv{suffix}").stat().st_size < 200


def test_other_members_of_a_zip_stay():
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"mine"
        archive.writestr("__MACOSX/._a.csv", b"system")
        archive.writestr("data/a.csv", b"old")
    Path("new.csv").write_bytes(b"new")
    repack(Path("new.csv"), Path("a.zip"), Path("b.zip"))
    with zipfile.ZipFile("b.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"__MACOSX/._a.csv": b"system", "data/a.csv": b"new"}
        assert archive.comment == b"mine"
        assert archive.getinfo("data/a.csv").compress_type == zipfile.ZIP_DEFLATED
