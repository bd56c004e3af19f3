"""The parts of an .xlsx file beside its sheets: which sheets it has, its texts, the number format of each style."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, iterparse, parse

from openpyxl.styles.numbers import BUILTIN_FORMATS

FORMATS = {
    **BUILTIN_FORMATS,
    **dict.fromkeys((*range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-m-d"),  # East Asian ones, which openpyxl lacks
    **dict.fromkeys((*range(32, 36), 55, 56), "h:mm"),
}
"""Number formats that a file names by their number alone."""


def tag(element: Element) -> str:
    """An element's name without its namespace: files of "Strict Open XML" use other ones."""
    return element.tag.rpartition("}")[2]


@dataclass(frozen=True)
class SheetEntry:
    """What a workbook says of one of its sheets."""

    name: str
    hidden: bool
    part: str
    """Name of the part that holds its cells."""


class XlsxParts:
    """An open .xlsx file, of which a part is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        self.names = {name.replace("\\", "/").lstrip("/").lower(): name for name in self.archive.namelist()}

    def open(self, part: str) -> IO[bytes]:
        """A part by its name, as which some programs write small letters or backslashes. KeyError where there is none."""
        return self.archive.open(self.names[part.lower()])

    def elements(self, part: str, *wanted: str) -> Iterator[Element]:
        """The elements of a part named so, each emptied once the next is asked for."""
        with self.open(part) as file:
            for _, element in iterparse(file):
                if tag(element) in wanted:
                    yield element
                    element.clear()

    @cached_property
    def workbook_part(self) -> str:
        """Name of the part that lists the sheets."""
        return self._related("", "officeDocument") or "xl/workbook.xml"

    @cached_property
    def workbook(self) -> Element:
        """The part that lists the sheets."""
        return self._parse(self.workbook_part)

    def sheets(self) -> list[SheetEntry]:
        """Its sheets of cells, in the order of their tabs."""
        relations, found = self._relations(self.workbook_part), []
        for element in self.workbook.iter():
            if tag(element) == "sheet":
                key = next(value for name, value in element.attrib.items() if name.endswith("}id"))
                target, kind = relations[key]
                if kind == "worksheet":
                    found.append(SheetEntry(element.attrib["name"], element.get("state", "visible") != "visible", target))
        return found

    def tables(self, sheet_part: str) -> list[tuple[str, bool]]:
        """Where the tables of a sheet stand that have a header, such as "A3:D90", and whether their last row has totals."""
        related = [target for target, kind in self._relations(sheet_part).values() if kind == "table"]
        roots = [self._parse(target) for target in related]
        with_header = [root for root in roots if root.get("headerRowCount") != "0"]
        return [(root.attrib["ref"], root.get("totalsRowCount", "0") != "0") for root in with_header]

    @cached_property
    def from_1904(self) -> bool:
        """Whether days are counted from 1904."""
        return any(tag(element) == "workbookPr" and element.get("date1904") in ("1", "true") for element in self.workbook.iter())

    @cached_property
    def to_be_computed(self) -> bool:
        """Whether formulas are to be computed when a spreadsheet program opens the file: a program wrote it, without values."""
        return any(tag(element) == "calcPr" and element.get("fullCalcOnLoad") in ("1", "true") for element in self.workbook.iter())

    @cached_property
    def shared_texts(self) -> list[str]:
        """Texts that cells name by their number."""
        part = self._related(self.workbook_part, "sharedStrings")
        return [text_of(element) for element in self.elements(part, "si")] if part else []

    @cached_property
    def formats(self) -> list[str]:
        """Number format by number of a style."""
        part = self._related(self.workbook_part, "styles")
        if part is None:
            return []
        root, codes = self._parse(part), dict(FORMATS)
        for element in root.iter():
            if tag(element) == "numFmt" and "numFmtId" in element.attrib:
                codes[int(element.attrib["numFmtId"])] = element.get("formatCode", "General")
        styles = next((element for element in root if tag(element) == "cellXfs"), ())
        return [codes.get(int(style.get("numFmtId", 0)), "General") for style in styles]

    def _related(self, part: str, kind: str) -> str | None:
        """The part of that kind to which a part refers."""
        found = (target for target, found_kind in self._relations(part).values() if found_kind == kind)
        return next((target for target in found if target.lower() in self.names), None)

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Part and kind of what a part refers to, by the key under which it does; "" is the file itself."""
        folder, name = posixpath.split(part)
        listed = posixpath.join(folder, "_rels", f"{name}.rels")
        if listed.lower() not in self.names:
            return {}
        return {
            element.attrib["Id"]: (
                posixpath.normpath(posixpath.join("/", folder, element.attrib["Target"])).lstrip("/"),
                element.attrib["Type"].rpartition("/")[2],
            )
            for element in self._parse(listed)
        }

    def _parse(self, part: str) -> Element:
        with self.open(part) as file:
            return parse(file).getroot()


def text_of(element: Element) -> str:
    """The text of a cell or a shared text: all its runs, without the readings that East Asian files add."""
    pieces = []
    for child in element:
        if tag(child) == "t":
            pieces.append(child.text or "")
        elif tag(child) == "r":
            pieces += [grandchild.text or "" for grandchild in child if tag(grandchild) == "t"]
    return unescape("".join(pieces))


def unescape(text: str) -> str:
    """`text` with letters that XML cannot hold, which a workbook writes as _x000D_, and each line break as one."""
    if "_x" in text:
        text = re.sub("_x([0-9A-Fa-f]{4})_", lambda found: chr(int(found[1], 16)), text)
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
