"""Whatever a file holds: the outcome is prepared data or an error with a message of one line, and never half a folder."""

import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.utils.exceptions import IllegalCharacterError

from job.data.column_mapping import ColumnMapping
from job.data.lengths import LengthLimits
from job.data.prepare import DataConfig, ModelSpec, prepare
from job.data.prepared import load_prepared
from job.data.read import Source
from job.errors import JobError
from tests.data.chat_templates import CHATML, GEMMA2, GPT_OSS, LLAMA3_1, MISTRAL, QWEN3, make_tokenizer

FUZZ = settings(database=None, max_examples=200, deadline=20_000, derandomize=True, suppress_health_check=list(HealthCheck))
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
suffixes = st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".txt", ".xlsx", ".parquet", ".arrow"])
STARTS = (
    b"",
    b"input,output_ground_truth\n",
    b"input\toutput_ground_truth\n",
    b'{"input": "',
    b'[{"input": ',
    b"PK\x03\x04",
    b"PAR1",
)


@pytest.fixture(scope="module")
def reader(tokenizer) -> ModelSpec:
    return ModelSpec(tokenizer, True, LengthLimits(512, None, shared=False))


def check(path: Path, reader: ModelSpec) -> str:
    """What came of the file ("prepared" or "refused in one line"); fails where it is neither data nor a message."""
    request = DataConfig(
        train=Source("TRAIN_DATA", str(path)), evaluation=None,
        columns=ColumnMapping("input", "output_ground_truth", "messages", "{input}"), eval_fraction=0.2, seed=42,
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
@given(suffix=st.sampled_from([".xlsx", ".parquet", ".arrow", ".csv"]), data=st.data())
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


def good(suffix: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without a fault."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path_factory.getbasetemp() / f"good{suffix}"
    if path.exists():
        return path
    rows = [(f"the {number} of May", f"05-{number:02d}") for number in range(1, 21)]
    table = pa.table({"input": [row[0] for row in rows], "output_ground_truth": [row[1] for row in rows]})
    if suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    elif suffix == ".csv":
        path.write_text("input,output_ground_truth\n" + "".join(",".join(row) + "\n" for row in rows))
    else:
        book = Workbook()
        for row in [("input", "output_ground_truth"), *rows]:
            book.active.append(row)
        book.save(path)
    return path
