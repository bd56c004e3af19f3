"""A text table comes back with cells behind its own text, whatever it is written like."""

import codecs
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.tables.added_columns import AddedColumns
from job.tables.delimited import read_delimited
from job.tables.delimited_edit import edit_delimited


def edit(content: str | bytes, cells: dict[int, tuple], name: str = "a.csv", names: tuple[str, ...] = ("output",)) -> bytes:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert edit_delimited(Path(name), Path("back"), AddedColumns(names, cells)) == ()
    return Path("back").read_bytes()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("input,b\nx,1\n", "input,b,output\nx,1,yes\n"),
        ("input,b\r\nx,1", "input,b,output\r\nx,1,yes"),
        ("input\tb\rx\t007\r", "input\tb\toutput\rx\t007\tyes\r"),
        ('"input";"b"\n"x";"1,50"\n', '"input";"b";"output"\n"x";"1,50";"yes"\n'),
        ('sep=;\r\ninput;b\r\nx;"a\nb"\r\n', 'sep=;\r\ninput;b;output\r\nx;"a\nb";yes\r\n'),
        ("input,b,,\nx,1,,\n", "input,b,,,output\nx,1,,,yes\n"),
        ("input,b\nx\n", "input,b,output\nx,,yes\n"),
        ("input\nx\n", "input,output\nx,yes\n"),
        ("input\nplease, book\n", 'input,output\n"please, book",yes\n'),
    ],
)
def test_the_row_keeps_its_text_and_gets_a_cell(content, expected):
    assert edit(content, {2: ("yes",)}).decode() == expected


def test_blank_rows_stay_where_they_are_and_rows_without_an_answer_get_an_empty_cell():
    assert edit("input,b\n\nx,1\n,\n ,2\n", {3: ("yes",), 5: (None,)}) == b"input,b,output\n\nx,1,yes\n,\n ,2,\n"


def test_a_cell_is_quoted_where_it_has_to_be_and_numbers_never_are():
    made = edit('"input","b"\n"x","1"\n"y","2"\n', {2: ('a "b", c\nd', -0.5), 3: ("", None)}, names=("output", "confidence"))
    assert made == b'"input","b","output","confidence"\n"x","1","a ""b"", c\nd",-0.5\n"y","2","",\n'


def test_quotes_are_written_as_the_file_writes_them():
    assert edit('input,b\n"a \\"b\\" c, d",1\n', {2: ('say "x"',)}).endswith(b'"a \\"b\\" c, d",1,"say \\"x\\""\n')


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("cp1252", b""),
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ],
)
def test_encoding_and_byte_order_mark_stay(encoding, mark):
    text = "input;b\r\nfür die schöne Müllerin;größer\r\nüber Äpfel;Öl\r\n"
    made = edit(mark + text.encode(encoding), {2: ("Grüße",), 3: ("x",)})
    expected = "input;b;output\r\nfür die schöne Müllerin;größer;Grüße\r\nüber Äpfel;Öl;x\r\n"
    assert made == mark + expected.encode(encoding)


def test_answers_that_the_encoding_lacks_make_it_utf_8_and_that_is_told():
    Path("a.csv").write_bytes("input;b\nfür die schöne Müllerin;größer\n".encode("cp1252"))
    notes = edit_delimited(Path("a.csv"), Path("back"), AddedColumns(("output",), {2: ("你好",)}))
    assert notes == ('is UTF-8, since cp1252 has no "你"',)
    assert Path("back").read_bytes() == codecs.BOM_UTF8 + "input;b;output\nfür die schöne Müllerin;größer;你好\n".encode()


def test_answers_are_not_computed_by_who_opens_the_file_and_the_persons_cells_are_theirs():
    made = edit("input,b\n=1,+2\nx,y\nz,z\n", {2: ("=1+1",), 3: ("-5",), 4: ("@a",)})
    assert made == b"input,b,output\n=1,+2,'=1+1\nx,y,-5\nz,z,'@a\n"


def test_where_quotes_mean_nothing_an_answer_is_on_one_line():
    rows = "".join(f'"say {row}\tx\n' for row in range(9))
    made = edit("input\tb\n" + rows, {2: ("a\tb\nc",)}, name="a.tsv")
    assert made.decode().splitlines()[1] == '"say 0\tx\ta b c'


def test_a_text_file_holds_the_answers_alone_a_line_for_each_of_its_lines():
    made = edit("one\r\n\r\ntwo\r\nthree", {1: ("a\nb", -1.0), 3: ("",), 4: ("d",)}, name="a.txt")
    assert made == b"a b\r\n\r\n\r\nd"


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=8)
ROWS = st.lists(st.tuples(CELLS, CELLS).filter(lambda row: any(map(str.strip, row))), min_size=1, max_size=6)


@given(ROWS, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), CELLS)
def test_every_other_cell_comes_back_equal(rows, delimiter, end, quoting, answer):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows([("input", "other column"), *rows])
    Path("a.csv").write_bytes(text.getvalue().encode())
    before = read_delimited("FILE", Path("a.csv"))
    edit_delimited(Path("a.csv"), Path("b.csv"), AddedColumns(("output",), dict.fromkeys(before.numbers, (f"a{answer}",))))
    own = Path("a.csv").read_bytes().decode()
    made = list(csv.reader(io.StringIO(Path("b.csv").read_bytes().decode(), newline=""), delimiter=delimiter))
    assert [row[:2] for row in made] == list(csv.reader(io.StringIO(own, newline=""), delimiter=delimiter))
    answered = {number: row[2] for number, row in enumerate(made, 1) if len(row) > 2}
    assert answered == {1: "output"} | dict.fromkeys(before.numbers, f"a{answer}")
