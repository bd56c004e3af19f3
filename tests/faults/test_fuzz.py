"""Whatever a file holds: the outcome is prepared data or an error with a message of one line, and never half a folder."""

import gzip
import json
import lzma
import os
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.utils.exceptions import IllegalCharacterError

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.data_config import DataConfig, ModelSpec
from job.data.lengths import LengthLimits
from job.data.prepare import prepare
from job.data.prepared import load_prepared
from job.data.rows import shape_of, to_prompts
from job.errors import JobError
from job.tables.read import read_table
from job.tables.table import Source
from tests.data.chat_templates import CHATML, GEMMA2, GPT_OSS, LLAMA3_1, MISTRAL, QWEN3, make_tokenizer
from tests.faults.conftest import THOROUGH
from tests.tables.made_workbooks import ods, xlsx

pytestmark = pytest.mark.slow

XLS = Path(__file__).parents[1] / "fixtures" / "workbooks" / "excel_97.xls"
EXAMPLES = 200 if THOROUGH else 60
FUZZ = settings(database=None, max_examples=EXAMPLES, deadline=20_000, derandomize=True, suppress_health_check=list(HealthCheck))
cells = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40), st.dates(), st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), st.sampled_from(["", " ", "NA", "\x00", "a\nb", "=1+1"]),
)  # fmt: skip
names = st.sampled_from(["input", "output_ground_truth", "messages", "id", "", "input "])
tables = st.lists(st.dictionaries(names, cells, max_size=4), max_size=12)
wanted = st.fixed_dictionaries({"input": cells, "output_ground_truth": cells})
texts = st.fixed_dictionaries({"input": st.text(max_size=200), "output_ground_truth": st.text(max_size=50)})
calls = st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": st.sampled_from(["f", ""]), "arguments": cells})})
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer"])},
    optional={
        "content": st.one_of(st.text(max_size=9), cells),
        "tool_calls": st.lists(calls, max_size=2),
        "weight": st.integers(0, 1),
        "id": cells,
    },
)
asked = st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=9)})
answered = st.fixed_dictionaries({"role": st.just("assistant"), "content": st.text(max_size=9, min_size=1)})
messages = st.one_of(st.tuples(asked, answered), st.tuples(asked, answered, turns, answered), st.lists(turns, max_size=3), cells)
suffixes = st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".txt", ".xlsx", ".xlsm", ".xls", ".ods", ".parquet", ".arrow"])
ODD_CELLS = [
    *("", " ", '"', '""', '\\"', "\\", '"a, b"', '"a\nb"', ' "x"', "a\tb", "\0", "\\N", ";;;", "sep=;"),
    *("für Müller", "été", "привет"),
]
ODD_PLACES = [
    *("", " ", "~", "~nobody", "~/x", ".", "/", "//", "a//b", "[", "[a", "**", "a*", "\0", "a\0.csv", "\udcff", "\n", "C:\\x"),
    *("s3://a/b", "file:///", "http://x", "a:b", "-", "--", "/dev/null", "/dev/tty", "/proc/self/mem", "a/b/c/d", "%s", "$HOME"),
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "cp1251", "cp932", "mac_roman", "cp850"]
plain = st.text("ab 1,;", min_size=3, max_size=12).filter(str.strip).map(lambda text: f'"{text}"')
STARTS = (
    b"",
    b"input,output_ground_truth\n",
    b"input\toutput_ground_truth\n",
    b'{"input": "',
    b'[{"input": ',
    b"PK\x03\x04",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"PAR1",
)
USUAL = ColumnMapping("input", "output_ground_truth", "messages", "{input}")
texts_of_any_kind = st.one_of(st.text(max_size=9), st.text(st.characters(categories=["Cs", "L"]), max_size=3))
literals = st.sampled_from(["NaN", "-Infinity", "1e999", "9" * 5000, "-0", "[" * 60 + "]" * 60, '"\\ud800"', '{"a":1,"a":2}'])
"""Values that are unusual in JSON, as they are written."""
keys = st.sampled_from(
    ["input", "output", "output_ground_truth", "question", "answer", "answers", "text", "label", "instruction", "messages",
     "prompt", "conversations", "completion", "translation", "train", "test", "data", "columns", "rows", "row", "row_idx",
     "paragraphs", "qas", "role", "content", "from", "value", "message_id", "parent_id", "replies", "system", "tools", "de",
     "0", "1", "", "a.b"]
)  # fmt: skip
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts_of_any_kind, st.sampled_from(["user", "assistant", "\x00@"])
)  # fmt: skip
values = st.recursive(
    leaves, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)), max_leaves=30
)  # fmt: skip
documents = st.one_of(values, st.lists(st.dictionaries(keys, values, min_size=1, max_size=5), min_size=1, max_size=6))

sheet_values = st.one_of(
    st.sampled_from(["0", "1", "-1", "1.5", "1e999", "46082.5", "#N/A", "2026-03-01", "a_x000D_b", "_xD83D_", "", " ", "9" * 5000]),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="<&"), max_size=9),
)
sheet_cells = st.builds(
    lambda place, kind, style, formula, value: f"<c{place}{kind}{style}>{formula}{value}</c>",
    st.sampled_from(["", ' r="A2"', ' r="B7"', ' r="XFD1048576"', ' r="7"', ' r="AAAAA1"', ' r=""']),
    st.sampled_from(["", *(f' t="{kind}"' for kind in ("s", "n", "b", "e", "d", "str", "inlineStr", "x"))]),
    st.sampled_from(["", ' s="0"', ' s="1"', ' s="-1"', ' s="x"']),
    st.sampled_from(["", "", "<f/>", "<f>A1</f>"]),
    st.one_of(st.just(""), st.just("<v/>"), sheet_values.map("<v>{}</v>".format), sheet_values.map("<is><t>{}</t></is>".format)),
)
sheet_rows = st.builds(
    lambda number, cells: f"<row{number}>{''.join(cells)}</row>",
    st.sampled_from(["", "", ' r="3"', ' r="1048576"', ' r="x"', ' r="-1"', ' hidden="1"']),
    st.lists(sheet_cells, max_size=4),
)


@pytest.fixture(scope="module")
def reader(tokenizer) -> ModelSpec:
    return ModelSpec(tokenizer, True, LengthLimits(512, None, shared=False))


def check(path: Path, reader: ModelSpec, columns: ColumnMapping = USUAL) -> str:
    """What came of the file ("prepared" or "refused in one line"); fails where it is neither data nor a message."""
    request = DataConfig(
        train=Source("TRAIN_DATA", str(path)), evaluation=None,
        columns=columns, eval_fraction=0.2, seed=42,
        max_lengths=("auto", "auto"), too_long="truncate", max_truncated_targets=0.01, num_proc=1,
    )  # fmt: skip
    folder = path.parent / "data"
    try:
        prepared = prepare(request, reader, folder)
    except JobError as error:
        message, code = str(error), error.exit_code
    else:
        assert load_prepared(folder).fingerprint == prepared.fingerprint
        assert len(prepared.train) > 0
        assert all(any(label != -100 for label in row["labels"]) for row in prepared.train)
        return "prepared"
    assert code in (65, 66, 78)
    assert len(message.splitlines()) == 1, message
    assert not folder.exists()
    assert not folder.with_name("data.partial").exists()
    return "refused in one line"


@FUZZ
@given(
    documents,
    literals,
    st.sampled_from([".json", ".jsonl"]),
    st.integers(1, 9),
    st.sampled_from([AUTO, "input", "answers.text", "a.b"]),
)
def test_json_of_any_shape(reader, count, document, literal, suffix, rows, column):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        text = json.dumps(document).replace('"\\u0000@"', literal)
        path.write_text("\n".join([text] * rows), encoding="utf-8", errors="surrogatepass")
        count(f"odd files, {check(path, reader, ColumnMapping(column, AUTO, AUTO, AUTO))}")


@FUZZ
@given(
    st.lists(
        st.sampled_from(
            ["{", "}", "{{ ", " }}", "{% if ", " %}", "{% endif %}", "input", "a", ".", " ", "[0]", "{input}", ":", "!", "|", "row"]
        )
    )
)
def test_templates_of_anything(tmp_path_factory, count, parts):
    table = read_table(Source("TRAIN_DATA", str(good(".csv", tmp_path_factory))))
    try:
        columns = shape_of(table, ColumnMapping(AUTO, AUTO, AUTO, "".join(parts) or AUTO)).columns
        prompts = to_prompts(table, columns)
    except JobError as error:
        message, code = str(error), error.exit_code
    else:
        assert len(prompts) == 20
        return count("odd templates, filled")
    assert code in (65, 78)
    assert len(message.splitlines()) == 1, message
    return count("odd templates, refused in one line")


@FUZZ
@given(st.one_of(tables, st.lists(wanted, max_size=12), st.lists(texts, min_size=6, max_size=12)))
def test_tables_of_anything_as_jsonl(reader, count, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8", errors="surrogatepass")
        count(f"odd files, {check(path, reader)}")


@FUZZ
@given(st.lists(st.one_of(wanted, texts), max_size=12))
def test_sheets_of_anything(reader, count, rows):
    with tempfile.TemporaryDirectory() as folder:
        book = Workbook()
        try:
            for row in [{"input": "input", "output_ground_truth": "output_ground_truth"}, *rows]:
                book.active.append([str(cell) if isinstance(cell, list | dict) else cell for cell in row.values()])
        except (IllegalCharacterError, ValueError):
            return  # no sheet can hold it
        path = Path(folder) / "rows.xlsx"
        book.save(path)
        count(f"odd files, {check(path, reader)}")


@FUZZ
@given(st.lists(sheet_rows, max_size=8))
@example(['<row><c t="inlineStr"><is><t>a</t></is></c><c t="inlineStr"/></row>'] * 3)
def test_sheets_of_any_xml_as_other_programs_write_them(reader, count, rows):
    """Behind a header and rows that are good: so that what is odd is reached."""
    good = ["<row>" + f'<c t="str"><v>{first}</v></c><c t="str"><v>{second}</v></c>' + "</row>" for first, second in GOOD_ROWS]
    with tempfile.TemporaryDirectory() as folder:
        path = xlsx(
            "".join([*good, *rows]), name=f"{folder}/rows.xlsx", before='<dimension ref="A1:XFD1048576"/>',
            styles='<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>', shared="<si><t>a</t></si>",
        )  # fmt: skip
        count(f"odd files, {check(path, reader)}")


@FUZZ
@given(st.sampled_from(STARTS), st.binary(max_size=300), suffixes)
@example(b"PK\x03\x04", b"", ".xlsx")
@example(b"", b"\xff\xfeinput", ".csv")
@example(b"[" * 100_000, b"", ".json")
def test_files_of_any_bytes(reader, count, start, rest, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(start + rest)
        count(f"odd files, {check(path, reader)}")


@FUZZ
@given(
    header=st.one_of(
        st.just(["input", "output_ground_truth"]),
        st.lists(st.sampled_from(["input", "output_ground_truth", "", "a, b", '"x"']), min_size=1, max_size=5),
    ),
    rows=st.one_of(
        st.lists(st.tuples(plain, plain), min_size=3, max_size=9),
        st.lists(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(ODD_CELLS)), max_size=6), max_size=8),
    ),
    layout=st.tuples(
        st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", "sep=;\n", "\n\n", "Title\n"])
    ),
    encoding=st.sampled_from(ENCODINGS),
    suffix=st.sampled_from([".csv", ".tsv", ".txt", ".tab", ".dat", ".CSV", ".csv.gz", ".txt.xz"]),
)  # fmt: skip
def test_text_tables_of_any_width_quotes_and_encoding(reader, count, header, rows, layout, encoding, suffix):
    delimiter, end, start = layout
    text = start + "".join(delimiter.join(cells) + end for cells in [header, *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        packed = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
        path.write_bytes(packed(text.encode(encoding, errors="ignore")))
        count(f"odd text tables, {check(path, reader)}")


@FUZZ
@given(name=st.one_of(st.text(max_size=30), st.binary(max_size=20).map(os.fsdecode), st.sampled_from(ODD_PLACES)))
@example("x" * 5000)
@example("a/" + "x" * 5000 + ".csv")
def test_places_of_any_name(count, name):
    """Neither a traceback nor a hang, and no question to a hub that could not have it."""
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(JobError) as caught:
            read_table(Source("TRAIN_DATA", f"{folder}/{name}" if name.isprintable() and len(name) < 10 else name))
        assert caught.value.exit_code in (65, 66)
        assert len(str(caught.value).splitlines()) == 1, str(caught.value)
        str(caught.value).encode()
        count("odd places, refused in one line")


modes = st.sampled_from([0o755, 0o755, 0o755, 0o644, 0o444, 0o111, 0o000])


@FUZZ
@given(
    folders=st.tuples(modes, modes),
    mode=modes,
    name=st.sampled_from(["a.csv", "a.csv.gz", "a.xlsx", "a.json", "a.parquet", "a.zip"]),
    asked=st.sampled_from(["", "in", "in/deep", "in/deep/{}", "in/deep/a", "in/*", "**/*", "in/deep/missing.csv"]),
)
def test_folders_and_files_of_any_permissions(count, folders, mode, name, asked):
    """As another user than root, who may all."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        deep = Path(folder, "in", "deep")
        deep.mkdir(parents=True)
        (deep / name).write_text("input\nx\n")
        for path, wanted in ((deep / name, mode), (deep, folders[1]), (deep.parent, folders[0])):
            path.chmod(wanted)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            read_table(Source("TRAIN_DATA", f"{folder}/{asked.format(name)}"))
            said = "read"
        except JobError as error:
            said = "refused in one line"
            code, message = error.exit_code, str(error)
        finally:
            if user == 0:
                os.seteuid(0)
            deep.parent.chmod(0o755)
            deep.chmod(0o755)
    if said != "read":
        assert code in (65, 66)
        assert len(message.splitlines()) == 1, message
    count(f"odd permissions, {said}")


@FUZZ
@given(suffix=st.sampled_from([".xlsx", ".xls", ".ods", ".parquet", ".arrow", ".csv"]), data=st.data())
def test_good_files_with_damage(reader, count, suffix, data, tmp_path_factory):
    """A byte changed, or the end lost."""
    content = bytearray(good(suffix, tmp_path_factory).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        count(f"odd files, {check(path, reader)}")


@FUZZ
@given(suffix=st.sampled_from([".xlsx", ".ods"]), data=st.data())
def test_good_spreadsheets_with_damage_within(reader, count, suffix, data, tmp_path_factory):
    """A byte of one of the parts changed, a part left out or made empty: the archive itself is whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        with zipfile.ZipFile(good(suffix, tmp_path_factory)) as old, zipfile.ZipFile(path, "w") as new:
            damaged = data.draw(st.sampled_from(old.namelist()))
            for name in old.namelist():
                content = bytearray(old.read(name))
                if name == damaged and data.draw(st.booleans()):
                    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
                elif name == damaged and data.draw(st.booleans()):
                    continue
                elif name == damaged:
                    del content[data.draw(st.integers(0, len(content))) :]
                new.writestr(name, content)
        count(f"odd files, {check(path, reader)}")


@FUZZ
@given(family=st.sampled_from([CHATML, QWEN3, LLAMA3_1, MISTRAL, GEMMA2, GPT_OSS]), chat=messages)
def test_a_chat_of_anything_among_good_ones(count, family, chat):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        good = [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "x"}] for n in range(9)]
        path.write_text(
            "".join(json.dumps({"messages": chat}, default=str) + "\n" for chat in [*good, chat]),
            encoding="utf-8",
            errors="surrogatepass",
        )
        count(f"odd chats, {check(path, chat_reader(family))}")


@cache
def chat_reader(template: str) -> ModelSpec:
    return ModelSpec(make_tokenizer(template), False, LengthLimits(512, 512, shared=True))


GOOD_ROWS = [("input", "output_ground_truth"), *((f"the {number} of May", f"05-{number:02d}") for number in range(1, 21))]


def good(suffix: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without a fault."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.getbasetemp() / f"good{suffix}"
    if path.exists():
        return path
    rows = GOOD_ROWS[1:]
    table = pa.table({"input": [row[0] for row in rows], "output_ground_truth": [row[1] for row in rows]})
    if suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    elif suffix == ".xls":
        path.write_bytes(XLS.read_bytes())
    elif suffix == ".ods":
        cell = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
        lines = "".join(f"<table:table-row>{''.join(map(cell.format, row))}</table:table-row>" for row in GOOD_ROWS)
        ods(f'<table:table table:name="One">{lines}</table:table>', name=str(path))
    elif suffix == ".csv":
        path.write_text("input,output_ground_truth\n" + "".join(",".join(row) + "\n" for row in rows))
    else:
        book = Workbook()
        for row in [("input", "output_ground_truth"), *rows]:
            book.active.append(row)
        book.save(path)
    return path
