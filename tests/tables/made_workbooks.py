"""Spreadsheets for tests: by openpyxl, and by hand as other programs write them."""

import zipfile
from pathlib import Path

from openpyxl import Workbook

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STRICT = {
    MAIN: "http://purl.oclc.org/ooxml/spreadsheetml/main",
    RELATIONS: "http://purl.oclc.org/ooxml/officeDocument/relationships",
}


def workbook(name: str, **sheets: list[tuple]) -> Path:
    """A workbook as openpyxl writes it."""
    book = Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(name)
    return Path(name)


def xlsx(sheet: str, *, name: str = "a.xlsx", before: str = "", after: str = "", **parts: str) -> Path:
    """A workbook by hand. sheet: the XML of its rows; before, after: what stands around them. parts: shared, styles, workbook."""
    kinds = {"shared": ("sharedStrings.xml", "sharedStrings", "sst"), "styles": ("styles.xml", "styles", "styleSheet")}
    there = {kinds[part]: xml for part, xml in parts.items() if part in kinds}
    relations = [("worksheets/sheet1.xml", "worksheet"), *((file, kind) for file, kind, _ in there)]
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("_rels/.rels", _relations([("xl/workbook.xml", "officeDocument")]))
        archive.writestr("xl/_rels/workbook.xml.rels", _relations(relations))
        book = f'{parts.get("workbook", "")}<sheets><sheet name="One" sheetId="1" r:id="rId1"/></sheets>{parts.get("end", "")}'
        archive.writestr("xl/workbook.xml", f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}">{book}</workbook>')
        archive.writestr(
            "xl/worksheets/sheet1.xml", f'<worksheet xmlns="{MAIN}">{before}<sheetData>{sheet}</sheetData>{after}</worksheet>'
        )
        for (file, _, root), xml in there.items():
            archive.writestr(f"xl/{file}", f'<{root} xmlns="{MAIN}">{xml}</{root}>')
    return Path(name)


def _relations(targets: list[tuple[str, str]]) -> str:
    listed = "".join(
        f'<Relationship Id="rId{number}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
        for number, (target, kind) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{listed}</Relationships>'


def strict(source: Path, target: str) -> Path:
    """A workbook as "Strict Open XML" names its elements, in parts with backslashes as some programs name them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            text = old.read(name).decode()
            for usual, other in STRICT.items():
                text = text.replace(usual, other)
            new.writestr(name.replace("/", "\\") if "sheet1" in name else name, text)
    return Path(target)


def ods(tables: str, *, name: str = "a.ods", styles: str = "") -> Path:
    """An .ods file by hand. tables: the XML of its sheets."""
    spaces = "".join(
        f' xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{long}:1.0"'
        for short, long in (("office", "office"), ("table", "table"), ("text", "text"), ("style", "style"))
    )
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f'<office:document-content{spaces} xmlns:calcext="urn:org:documentfoundation:names:calcext:1.0">'
            f"<office:automatic-styles>{styles}</office:automatic-styles>"
            f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body></office:document-content>",
        )
    return Path(name)
