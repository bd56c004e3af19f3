"""Whatever can be read can be given back: one column more, every other cell as it was, in one line told where that cannot be."""

import json
import tempfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from job.errors import JobError
from job.tables.destination import choose_destination
from job.tables.give_back import Columns, give_back, rehearse
from job.tables.parts import ALL
from job.tables.read import read_table
from job.tables.table import Source, Table
from tests.faults.test_fuzz import ENCODINGS, FUZZ, GOOD_ROWS, ODD_CELLS, documents, literals, plain, sheet_rows
from tests.tables.made_workbooks import xlsx

pytestmark = pytest.mark.slow

FEWER = settings(FUZZ, max_examples=FUZZ.max_examples // 2)
NEW = "new column"
answers = st.lists(st.one_of(st.none(), st.text(max_size=9), st.sampled_from(["=1+1", "a\nb", '"', "ü", "\x00", "-5"])), min_size=1)


def read(path: Path) -> Table:
    return read_table(Source("FILE", str(path), split=ALL))


def check(path: Path, texts: list[str | None]) -> str:
    """What came of it: "given back" or "refused in one line". Fails where a cell that was there is another one."""
    out = path.parent / "out"
    try:
        table = read(path)
        cells = [(texts[index % len(texts)],) for index in range(len(table.rows))]
        destination = rehearse(choose_destination(Source("FILE", str(path), split=ALL), f"{out}/", out), table, (NEW,))
        give_back(destination, table, Columns((NEW,), cells))
    except JobError as error:
        message, code = str(error), error.exit_code
    else:
        return compare(table, read(destination.path), bool(destination.files), cells)
    assert code in (65, 66, 73)
    assert len(message.splitlines()) == 1, message
    assert not list(out.glob("*"))
    return "refused in one line"


def compare(table: Table, back: Table, is_same_file: bool, cells: list[tuple]) -> str:
    """ "given back"; a new table has all cells as text."""
    names = table.rows.column_names
    assert NEW in back.rows.column_names or not any(text and text.strip() for (text,) in cells)
    assert [name for name in back.rows.column_names if name != NEW] == names
    if is_same_file:
        assert back.rows.select_columns(names).to_list() == table.rows.to_list()
        assert [back.row_name(index) for index in range(len(back.rows))] == [
            table.row_name(index) for index in range(len(back.rows))
        ]
        return "given back"
    assert len(back.rows) >= sum(any(row.values()) for row in table.rows)
    return "given back in a new table"


@FEWER
@given(
    st.lists(st.lists(st.one_of(plain, st.sampled_from(ODD_CELLS), st.text(max_size=9)), max_size=4), max_size=6),
    st.tuples(st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "sep=;\n", "\n\n"])),
    st.sampled_from(ENCODINGS),
    st.sampled_from([".csv", ".tsv"]),
    answers,
)
def test_text_tables_of_anything(count, rows, layout, encoding, suffix, texts):
    delimiter, end, start = layout
    text = start + "".join(delimiter.join(cells) + end for cells in [["input", "b"], ['"x y"', "z"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(text.encode(encoding, errors="ignore"))
        count(f"odd text tables, {check(path, texts)}")


@FEWER
@given(documents, literals, st.sampled_from([".json", ".jsonl"]), st.sampled_from([None, 1]), answers)
@example({"train": [{"a": "1"}], "test": [{"a": "2"}]}, "NaN", ".json", None, ["x"])
def test_json_of_any_shape(count, document, literal, suffix, indent, texts):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        text = json.dumps(document, indent=indent).replace('"\\u0000@"', literal)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        count(f"odd JSON, {check(path, texts)}")


@FEWER
@given(st.lists(sheet_rows, max_size=6), answers)
def test_sheets_of_any_xml(count, rows, texts):
    good = ["<row>" + f'<c t="str"><v>{first}</v></c><c t="str"><v>{second}</v></c>' + "</row>" for first, second in GOOD_ROWS]
    with tempfile.TemporaryDirectory() as folder:
        path = xlsx("".join([*good, *rows]), name=f"{folder}/rows.xlsx", styles='<cellXfs><xf numFmtId="0"/></cellXfs>')
        count(f"odd sheets, {check(path, texts)}")


kinds = st.recursive(
    st.sampled_from(
        [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary(3), pa.binary_view(), pa.bool_(), pa.int8(),
         pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 2), pa.decimal256(50, 3), pa.date32(), pa.date64(),
         pa.time32("s"), pa.time64("ns"), pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin"),
         pa.duration("ns"), pa.null(), pa.dictionary(pa.int8(), pa.string()), pa.map_(pa.string(), pa.int64())]
    ),
    lambda inner: st.one_of(inner.map(pa.list_), inner.map(pa.large_list), inner.map(lambda kind: pa.struct([("a", kind)]))),
    max_leaves=2,
)  # fmt: skip
numbers = st.one_of(st.integers(0, 99), st.sampled_from([2**62, -(2**62), 2**31 - 1]))


def made(kind: pa.DataType, number: int) -> pa.Array:
    """A cell of that type, whatever its bytes mean, and an empty one."""
    if pa.types.is_map(kind):
        return pa.array([[(str(number), number)], None], kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = pa.array([0, 1, 1], pa.int64() if pa.types.is_large_list(kind) else pa.int32())
        inner = made(kind.value_type, number)
        return (pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray).from_arrays(offsets, inner)
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([made(kind.field(0).type, number)], [kind.field(0).name])
    if pa.types.is_dictionary(kind):
        return pa.array([str(number), None]).dictionary_encode().cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array([Decimal(number % 1000), None], kind)
    if pa.types.is_temporal(kind):
        bits = pa.int32() if kind.bit_width == 32 else pa.int64()
        inside = number % 86_400 if pa.types.is_time(kind) else number % 2**31 if kind.bit_width == 32 else number
        return pa.array([inside, None], bits).view(kind)
    value = {"bool": bool(number), "null": None}.get(str(kind))
    if value is None and not pa.types.is_null(kind):
        value = number % 100 if pa.types.is_integer(kind) or pa.types.is_floating(kind) else f"{number:03d}"[:3]
    if pa.types.is_float16(kind):
        return pa.array([value, None], pa.float32()).cast(kind)
    return pa.array([value.encode() if "binary" in str(kind) else value, None], kind)


@FEWER
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "input", ""]), kinds, numbers), max_size=4),
    st.sampled_from([".parquet", ".arrow", ".feather"]),
    answers,
)
def test_arrow_of_any_type(count, columns, suffix, texts):
    table = pa.table(
        [pa.array(["x", "y"]), *(made(kind, number) for _, kind, number in columns)], ["input", *(name for name, *_ in columns)]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        try:
            if suffix == ".parquet":
                pq.write_table(table, path)
            else:
                with (pa.ipc.new_stream if suffix == ".arrow" else pa.ipc.new_file)(str(path), table.schema) as writer:
                    writer.write_table(table)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return  # no file can hold it
        count(f"odd arrow, {check(path, texts)}")
