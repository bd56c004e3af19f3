"""Bytes -> text: UTF-8 and UTF-16, and the encodings of one country that Excel and older programs write."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from charset_normalizer import from_bytes

from job.errors import DataError

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
OTHER_FORMATS = {
    b"PK\x03\x04": "a workbook or a zip archive (.xlsx, .zip)",
    b"\xd0\xcf\x11\xe0": "an old workbook (.xls)",
    b"PAR1": "a parquet file (.parquet)",
    b"ARROW1": "an arrow file (.arrow)",
    b"\x1f\x8b": "a gzip archive (.gz)",
    b"%PDF": "a PDF",
}
WESTERN = ("äöüß", "àâæçèéêëîïôœùûü", "áéíñóúü", "áâãàçéêíóôõúü", "àèéìíòóùú", "åäöæøé", "äëïéèöüáó", "áéíóúýþæðö", "äõöüšž")
CENTRAL = ("ąćęłńóśźż", "áäčďéěíĺľňóôŕřšťúůýž", "áéíóöőúüű", "ăâîşţ", "čćđšž")
ALPHABETS = {
    "cp1252": WESTERN,
    "iso8859_15": WESTERN,
    "cp1250": CENTRAL,
    "iso8859_2": CENTRAL,
    "cp1254": ("çğıiöşüâîû",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"),
    "cp850": WESTERN,
    "cp852": CENTRAL,
    "mac_roman": WESTERN,
}
"""The letters beyond ASCII of languages in Latin letters, by the encodings that have them; which one is likelier comes first.

What charset-normalizer finds is right for other scripts (below), but it takes short French for Lithuanian.
"""
OTHER_SCRIPTS = ["cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256", "cp874", "cp932", "gb18030", "big5", "cp949"]
HALF_WIDTH = re.compile("[\uff61-\uff9f]")
"""Letters of one byte in cp932: nearly any bytes can be read as those, Russian ones too. Japanese is written otherwise."""
MARKS, MARKS_IN_WORDS = "€‚„…‘’“”–—•§°´«»¿¡©®™²³½·×\xa0\xad", "’·´–—\xa0\xad"
BROKEN = re.compile("\ufffd|[\u00c2\u00c3][\u0080-\u00bf\u0152-\u0192\u2013-\u203a\u20ac\u2122]|\u00e2\u20ac")
"""The sign of a letter that was lost, and UTF-8 that was read as cp1252: ü as Ã¼, ’ as â€™."""
SAMPLE_BYTES, SAMPLE_WORDS = 100_000, 2_000


@dataclass(frozen=True)
class Decoded:
    """The text of a file, and how it was written."""

    text: str
    encoding: str = "utf-8"
    mark: bool = False
    """Whether it began with a byte order mark."""
    notes: tuple[str, ...] = ()


def decode(where: str, name: str, content: bytes) -> Decoded:
    """The text of the file `name`; a note says which encoding was taken where only its content tells. Raises DataError."""
    if other := next((kind for start, kind in OTHER_FORMATS.items() if content.startswith(start)), None):
        raise DataError(f"{where}: {name} is not text but {other}. Give it the ending of what it is.")
    mark = next((mark for mark in BYTE_ORDER_MARKS if content.startswith(mark)), b"")
    encoding = BYTE_ORDER_MARKS.get(mark) or _wide(content) or "utf-8"
    notes: tuple[str, ...] = ()
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or mark or _is_mostly_utf8(content):
            raise DataError(_damaged(where, name, content, encoding, error.start + len(mark))) from None
        encoding, text = _decode_of_a_country(where, name, content)
        notes = (_told(name, encoding, text),)
    text = text.rstrip("\x1a")  # DOS ended texts with it
    if nulls := text.count("\0"):
        text = text.replace("\0", "")
        notes += (f"{name}: {nulls} NUL characters are left out, which no text has; look whether the file is whole.",)
    if broken := BROKEN.search(text):
        shown = text[max(0, broken.start() - 10) : broken.end() + 10].split("\n")[0].strip()
        notes += (f"{name}: letters were lost or garbled before it was saved, as in {shown!r}. Export it once more, as UTF-8.",)
    return Decoded(text, encoding, bool(mark), notes)


def _wide(content: bytes) -> str | None:
    """UTF-16 without a byte order mark, by its NULs: every other byte of Latin text is one."""
    even, odd = (content[place:2000:2].count(0) for place in (0, 1))
    half = len(content[:2000]) // 2
    if half and max(even, odd) > 0.7 * half and min(even, odd) < 0.1 * half:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _is_mostly_utf8(content: bytes) -> bool:
    """Whether more characters beyond ASCII are whole UTF-8 than are not: a file with damage, not one in another encoding."""
    text = content[: 10 * SAMPLE_BYTES].decode("utf-8", errors="replace")
    damaged = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - damaged > damaged


def _damaged(where: str, name: str, content: bytes, encoding: str, place: int) -> str:
    line = content[:place].decode(encoding, errors="replace").count("\n") + 1
    found = f"byte 0x{content[place]:02x}" if place < len(content) else "the end is missing"
    return (
        f"{where}: {name} is damaged: line {line} is not {encoding.upper()} ({found}), as most of the file is. "
        'Save it once more as UTF-8; Excel calls it "CSV UTF-8".'
    )


def _decode_of_a_country(where: str, name: str, content: bytes) -> tuple[str, str]:
    """The encoding, and the text. Raises DataError where none gives words."""
    lines = b"\n".join(line for line in content[: 100 * SAMPLE_BYTES].splitlines() if not line.isascii())[:SAMPLE_BYTES]
    shares = {encoding: _share_of_words(lines, encoding) for encoding in ALPHABETS}
    likely = max(shares, key=lambda encoding: shares[encoding])
    if shares[likely] < 0.9 and (other := _of_another_script(lines)):
        likely = other
    elif shares[likely] < 0.5:
        raise DataError(f'{where}: {name} is no text in a known encoding. Save it as UTF-8; Excel calls it "CSV UTF-8".')
    try:
        return likely, content.decode(likely)
    except UnicodeDecodeError as error:
        raise DataError(_damaged(where, name, content, likely, error.start)) from None


def _of_another_script(content: bytes) -> str | None:
    """The likeliest encoding of a script that is not Latin; None where none fits."""
    found = from_bytes(content, cp_isolation=OTHER_SCRIPTS).best()
    if (
        found
        and found.encoding == "cp932"
        and len(HALF_WIDTH.findall(str(found))) * 2 > sum(letter > "\x7f" for letter in str(found))
    ):
        others = [encoding for encoding in OTHER_SCRIPTS if encoding != "cp932"]
        found = from_bytes(content, cp_isolation=others).best() or found
    return found.encoding if found else None


def _share_of_words(content: bytes, encoding: str) -> float:
    """The share of the characters beyond ASCII that belong where they stand, in the best language of that encoding."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3:
            return 0
        text = content[: error.start].decode(encoding)
    words = _foreign_words(text)
    letters = [character for word in words if len(word) > 1 for character in word if character.isalpha()]
    if letters and sum(map(str.isascii, letters)) < 0.35 * len(letters):
        return 0  # words of nothing but accents are another script's
    return max(_share(words, alphabet) for alphabet in ALPHABETS[encoding])


def _share(words: list[str], alphabet: str) -> float:
    fitting = total = 0
    for word in words:
        for before, character, after in zip(f" {word[:-1]}", word, f"{word[1:]} ", strict=True):
            if not character.isascii():
                total += 1
                in_word = before.isalpha() and after.isalpha()
                is_letter = character.lower() in alphabet and not (character.isupper() and before.islower())
                fitting += is_letter or character in (MARKS_IN_WORDS if in_word else MARKS)
    return fitting / total if total else 0


def _foreign_words(text: str) -> list[str]:
    """The first words with characters beyond ASCII."""

    def found() -> Iterator[str]:
        for word in re.finditer(r"[^\s,;|\"]*[^\x00-\x7f][^\s,;|\"]*", text):
            yield word.group()
            if word.start() > SAMPLE_BYTES:
                return

    return list(found())[:SAMPLE_WORDS]


def _told(name: str, encoding: str, text: str) -> str:
    words = list(dict.fromkeys(word.strip(".:!?()'") for word in _foreign_words(text)))[:3]
    shown = ", ".join(f'"{word[:20]}"' for word in words)
    return f"{name} is not UTF-8; read as {encoding}, which gives words such as {shown}. If those are wrong, save it as UTF-8."


def encode(text: str, like: Decoded) -> tuple[bytes, str | None]:
    """`text` as bytes, as `like` was written, and what a person should know: letters that encoding lacks make it UTF-8."""
    mark = next((mark for mark, name in BYTE_ORDER_MARKS.items() if name == like.encoding), b"") if like.mark else b""
    try:
        return mark + text.encode(like.encoding), None
    except UnicodeEncodeError as error:
        lacking = error.object[error.start]
        return codecs.BOM_UTF8 + text.encode(errors="replace"), f'is UTF-8, since {like.encoding} has no "{lacking}"'
