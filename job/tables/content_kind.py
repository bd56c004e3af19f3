"""What a file is by its content, whatever its name ends in."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

START = 4096
"""Bytes looked at."""


@dataclass(frozen=True)
class ContentKind:
    """What a file is."""

    name: str
    """Words for a person: "an Excel workbook (.xlsx)"."""
    advice: str
    """What to do with it where a spreadsheet was expected."""
    suffix: str = ""
    """Of the reader that can read it, where there is one."""


SAVE_AS = "Open it in a spreadsheet program and save it as .xlsx."
XLSX = ContentKind("an Excel workbook (.xlsx)", "Let its name end in .xlsx.", ".xlsx")
XLS = ContentKind("an Excel workbook of before 2007 (.xls)", "Let its name end in .xls.", ".xls")
ODS = ContentKind("an OpenDocument spreadsheet (.ods)", "Let its name end in .ods.", ".ods")
PASSWORD = ContentKind("protected by a password", "Save a copy of it without the password.")
OLD = ContentKind("protected by a password, damaged or an old Office document", "Save a copy of it as .xlsx without a password.")
DAMAGED_ZIP = ContentKind("damaged, an Office document or a zip archive cut short", "Save it as .xlsx once more, or copy it anew.")
TEXT = ContentKind("plain text", "Let its name end in .csv, or in .tsv where tabs are between its cells.")
UNKNOWN = ContentKind("no spreadsheet", "Save it as .xlsx once more.")
BINARY = ContentKind("a binary Excel workbook (.xlsb)", "Open it in Excel and save it as .xlsx.")
WORD = ContentKind("a Word document", "Put its table into a spreadsheet and save that as .xlsx.")
APPLE = ContentKind("an Apple Numbers or Pages file", "Export it from there as Excel (.xlsx).")
BY_ENDING = {".xlsb": BINARY, ".docx": WORD, ".doc": WORD, ".numbers": APPLE}
"""What files with these endings are taken for, whatever is in them."""
ZIP_KINDS = {
    "xl/workbook.bin": BINARY,
    "word/document.xml": WORD,
    "ppt/presentation.xml": ContentKind("a PowerPoint presentation", "Put its table into a spreadsheet and save that as .xlsx."),
    "index/document.iwa": APPLE,
    "index.zip": APPLE,
}
STARTS = {
    b"%pdf": ContentKind("a PDF", "Put its table into a spreadsheet and save that as .xlsx."),
    b"{\\rtf": ContentKind("a text with formats (.rtf)", "Put its table into a spreadsheet and save that as .xlsx."),
    b"\x1f\x8b": ContentKind("compressed with gzip", "Unpack it."),
    b"par1": ContentKind("a parquet file", "Let its name end in .parquet."),
}


def content_kind(path: Path) -> ContentKind:
    """What the file at `path` is, told by its first bytes and the names within it. Raises OSError where it cannot be opened."""
    with path.open("rb") as file:
        start = file.read(START)
        if start.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
            sector, bits = int.from_bytes(start[48:52], "little"), int.from_bytes(start[30:32], "little")
            file.seek((sector + 1) << min(bits, 12))  # where the names of its streams stand
            return _of_streams(file.read(START))
    if start.startswith(b"PK"):
        return _of_archive(path)
    lower = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if found := next((kind for sign, kind in STARTS.items() if lower.startswith(sign)), None):
        return found
    if b"urn:schemas-microsoft-com:office:spreadsheet" in lower:
        return ContentKind("an XML spreadsheet of Excel 2003", SAVE_AS)
    if lower.startswith((b"<!doctype html", b"<html", b"<table", b"<head", b"<meta", b"<style")) or b"<html" in lower:
        return ContentKind("a web page (HTML)", SAVE_AS)
    return TEXT if _is_text(start) else UNKNOWN


def describe_unreadable(path: Path, endings: Sequence[str]) -> str:
    """What a file is that has none of the `endings` that are read, and what to do."""
    kind = BY_ENDING.get(path.suffix.lower()) or content_kind(path)
    if kind in (TEXT, UNKNOWN):
        return f"cannot read {path.suffix.lower() or 'a file without an ending'}. Save it as one of {', '.join(endings)}."
    return f"{path.name} is {kind.name}. {kind.advice}"


def _of_streams(names: bytes) -> ContentKind:
    """An Office document of before 2007, or a newer one that is encrypted."""
    if "EncryptedPackage".encode("utf-16-le") in names:
        return PASSWORD
    if "WordDocument".encode("utf-16-le") in names:
        return ContentKind("a Word document of before 2007 (.doc)", "Put its table into a spreadsheet and save that as .xlsx.")
    return XLS if any(name.encode("utf-16-le") + b"\0\0" in names for name in ("Workbook", "Book")) else OLD


def _of_archive(path: Path) -> ContentKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.replace("\\", "/").lower(): name for name in archive.namelist()}
            if found := next((kind for name, kind in ZIP_KINDS.items() if name in names), None):
                return found
            if "content.xml" in names:
                protected = b"encryption-data" in archive.read("META-INF/manifest.xml")
                return PASSWORD if protected else _of_document(archive)
            return XLSX if any(name.startswith("xl/") for name in names) else ContentKind("a zip archive", "Unpack it.")
    except Exception:  # zipfile raises nearly anything for a damaged archive
        return DAMAGED_ZIP


def _of_document(archive: zipfile.ZipFile) -> ContentKind:
    kind = archive.read("mimetype")
    if b"opendocument.spreadsheet" in kind:
        return ODS
    return ContentKind("an OpenDocument text or drawing", "Put its table into a spreadsheet and save that as .xlsx.")


def _is_text(start: bytes) -> bool:
    """Whether bytes are text of some encoding: without the control bytes that no text has, or UTF-16."""
    return start.startswith((b"\xff\xfe", b"\xfe\xff")) or not any(byte < 32 and byte not in b"\t\n\r\f\x1a\x1b" for byte in start)
