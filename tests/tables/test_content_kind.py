"""What a file is, is told by its content."""

import zipfile
from pathlib import Path

import pytest

from job.tables.content_kind import content_kind, describe_unreadable
from tests.tables.made_workbooks import ods, workbook

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
FIXTURE = Path(__file__).parents[1] / "fixtures" / "workbooks" / "excel_97.xls"


def ole(*streams: str) -> bytes:
    """An Office document of before 2007 with the names of its streams in its first sector."""
    header = OLE + bytes(22) + (9).to_bytes(2, "little") + bytes(16) + (0).to_bytes(4, "little")
    return header.ljust(512, b"\0") + b"".join(name.encode("utf-16-le").ljust(128, b"\0") for name in streams)


def archive(*names: str) -> Path:
    with zipfile.ZipFile("made", "w") as made:
        for name in names:
            made.writestr(name, "x")
    return Path("made")


def test_workbooks_are_known_whatever_they_are_called():
    for made, suffix in ((workbook("a.csv", one=[("a",)]), ".xlsx"), (ods("", name="a.txt"), ".ods"), (FIXTURE, ".xls")):
        assert content_kind(made).suffix == suffix


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (ole("Root Entry", "EncryptionInfo", "EncryptedPackage"), "protected by a password"),
        (ole("Root Entry", "WordDocument"), "a Word document of before 2007 (.doc)"),
        (ole("Root Entry", "Book"), "an Excel workbook of before 2007 (.xls)"),
        (OLE, "protected by a password, damaged or an old Office document"),
        (b"PK\x03\x04" + bytes(40), "damaged, an Office document or a zip archive cut short"),
        (b"<html><table>", "a web page (HTML)"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE html>", "a web page (HTML)"),
        (b'<?xml version="1"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet">', "an XML spreadsheet of Excel 2003"),
        (b"%PDF-1.7", "a PDF"),
        (b"{\\rtf1", "a text with formats (.rtf)"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b"PAR1\x15", "a parquet file"),
        (b"input;output\n\xe4;b\n", "plain text"),
        ("input,output\n".encode("utf-16"), "plain text"),
        (bytes(range(256)), "no spreadsheet"),
    ],
)  # fmt: skip
def test_other_files_are_called_by_what_they_are(content, name):
    Path("made").write_bytes(content)
    assert content_kind(Path("made")).name == name
    assert content_kind(Path("made")).advice.endswith(".")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("xl/workbook.bin", "a binary Excel workbook (.xlsb)"),
        ("word/document.xml", "a Word document"),
        ("ppt/presentation.xml", "a PowerPoint presentation"),
        ("Index/Document.iwa", "an Apple Numbers or Pages file"),
        ("mine.csv", "a zip archive"),
    ],
)
def test_archives_are_called_by_what_is_in_them(part, name):
    assert content_kind(archive("[Content_Types].xml", part)).name == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xl/workbook.bin", "a.x is a binary Excel workbook (.xlsb). Open it in Excel and save it as .xlsx."),
        ("Index/Document.iwa", "a.x is an Apple Numbers or Pages file. Export it from there as Excel (.xlsx)."),
        ("xl/workbook.xml", "a.x is an Excel workbook (.xlsx). Let its name end in .xlsx."),
    ],
)
def test_a_file_that_is_not_read_is_called_by_what_it_is_with_what_to_do(name, said):
    assert describe_unreadable(archive(name).rename("a.x"), (".csv",)) == said


@pytest.mark.parametrize(
    ("name", "said"), [("a.numbers", "an Apple Numbers"), ("a.xlsb", "a binary Excel"), ("a.DOCX", "a Word doc")]
)
def test_what_is_damaged_is_called_by_its_ending(name, said):
    Path(name).write_bytes(b"PK...")
    assert describe_unreadable(Path(name), ()).startswith(f"{name} is {said}")


def test_a_text_whose_ending_says_nothing_is_told_which_endings_are_read():
    Path("a.md").write_text("| a |")
    Path("b").write_bytes(bytes(range(9)))
    assert describe_unreadable(Path("a.md"), (".csv", ".x")) == "cannot read .md. Save it as one of .csv, .x."
    assert describe_unreadable(Path("b"), (".csv",)) == "cannot read a file without an ending. Save it as one of .csv."


def test_documents_that_are_encrypted_or_hold_no_sheets_are_told():
    with zipfile.ZipFile("made", "w") as made:
        made.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        made.writestr("content.xml", "")
        made.writestr("META-INF/manifest.xml", "<manifest:encryption-data/>")
    assert content_kind(Path("made")).name == "protected by a password"
    with zipfile.ZipFile("made", "w") as made:
        made.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        made.writestr("content.xml", "")
        made.writestr("META-INF/manifest.xml", "")
    assert content_kind(Path("made")).name == "an OpenDocument text or drawing"
