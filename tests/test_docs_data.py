"""Each example of docs/data.md is read as the page says."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from job.data.column_mapping import AUTO, ColumnMapping
from job.data.rows import shape_of, to_examples, to_prompts
from job.data.shapes import Shape
from job.tables.cell_format import number_text
from job.tables.read import SUFFIXES, read_table
from job.tables.table import Source, Table

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SHAPES = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", PAGE.partition("\n## Shapes")[2].partition("\n## ")[0], re.MULTILINE)[1:]
EXAMPLES = [
    (kind, json.loads(text), reads)
    for kind, cell, reads in SHAPES
    for text in re.findall(r"`({.*?})`(?:,|$| )", cell.replace(", …}", ', "content": "c"}'))
]
PAIRS = {
    pair
    for _, cell, _ in SHAPES
    for pair in re.findall(r"`(\w+)`/`(\w+)`", cell)
    if pair[0] not in ("premise", "sentence1", "question1")
}
BLOCKS = re.findall(r"(?:^(?: {4}.*)?\n)+", PAGE, re.MULTILINE)


def read(rows: list[dict]) -> Table:
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_table(Source("TRAIN_DATA", "a.jsonl"))


def shape(table: Table, **wanted: str) -> Shape:
    return shape_of(table, ColumnMapping(**{"input": AUTO, "target": AUTO, "messages": AUTO, "template": AUTO} | wanted))


def block(start: str) -> str:
    """The indented block of the page that begins so."""
    found = next(text for text in BLOCKS if text.strip().startswith(start))
    return re.sub("^ {4}", "", found, flags=re.MULTILINE).strip() + "\n"


def test_the_page_has_as_many_examples_as_this_test_expects():
    assert (len(SHAPES), len(EXAMPLES), len(PAIRS)) == (15, 10, 5)


@pytest.mark.parametrize(("kind", "row", "reads"), EXAMPLES, ids=[kind for kind, *_ in EXAMPLES])
def test_each_shape_is_recognised_from_its_example(kind, row, reads, tmp_path):
    wanted = {"input": "translation.en", "target": "translation.de"} if "translation" in row else {}
    found = shape(read([row, row]), **wanted)
    if found.is_chat:
        assert reads == "the same"
        return
    prompt = to_prompts(read([row]), found.columns)[0]
    first = next(iter(row.values()))
    assert prompt.startswith(
        {"`Input: {input}`": "Input: ", "`question: … context: …`": "question: "}.get(reads.partition(";")[0], str(first))
    )
    assert len(to_examples(read([row, row]), found.columns, tmp_path / "cache.arrow")) == 2


@pytest.mark.parametrize(("first", "second"), sorted(PAIRS))
def test_each_pair_of_names_is_recognised(first, second):
    found = shape(read([{first: "a", second: "b"}]))
    assert (found.columns.input, found.columns.target, found.columns.template) == (first, second, "Input: {input}")


@pytest.mark.parametrize("names", [("dialogue", "summary"), ("document", "summary"), ("article", "highlights")])
def test_summaries_are_recognised_by_the_names_on_the_page(names):
    assert "`dialogue` or `document` with `summary`, `article` with `highlights`" in PAGE
    found = shape(read([dict.fromkeys(names, "a")]))
    assert (found.columns.input, found.columns.target) == names


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2")])
def test_pairs_of_sentences_are_recognised_by_the_names_on_the_page(names):
    assert "`/`".join(names).join("``") in PAGE
    found = shape(read([dict.fromkeys((*names, "label"), "a")]))
    assert found.columns.template == f"{names[0]}: {{{{ {names[0]} }}}} {names[1]}: {{{{ {names[1]} }}}}"


def test_a_tree_of_messages_with_the_names_on_the_page_is_a_chat():
    assert "`message_id`, `parent_id`, `role`, `text`, a row a message" in PAGE
    ask = {"message_id": "1", "parent_id": None, "role": "prompter", "text": "a"}
    assert shape(read([ask, {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "b"}])).is_chat


def test_the_example_of_a_text_table_is_read():
    Path("a.csv").write_text(block("sep=;"))
    table = read_table(Source("TRAIN_DATA", "a.csv"))
    assert table.rows.to_list() == [{"input": "Zimmer für Müller; bitte", "output_ground_truth": "Zimmer 12"}]


def test_the_parts_of_the_folder_on_the_page_are_told_apart():
    lines = block("data/").splitlines()
    Path("data").mkdir()
    for name in (line.split()[0] for line in lines[1:]):
        Path("data", name).write_text(f"input,output\n{name},x\n")
    table = read_table(Source("TRAIN_DATA", "data"))
    said = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines[1:]}
    assert [*table.rows["input"], *table.held_out.rows["input"]] == ["train.csv", "validation.csv"]
    assert [said["train.csv"], said["validation.csv"].partition(":")[0], said["test.csv"].partition(",")[0]] == [
        "trained on", "held out", "not used"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "word", re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (?:train|validation|test) \| .*", PAGE, re.MULTILINE)))
)
def test_each_word_for_a_part_is_one(word):
    Path("data").mkdir()
    for name in (f"de-{word}.csv", "train.csv", "test.csv"):
        Path("data", name).write_text("input\nx\n")
    assert f"de-{word}.csv" not in str(read_table(Source("TRAIN_DATA", "data")).notes).partition("other")[2]


def test_the_templates_of_the_page_are_filled_as_it_says():
    simple, alpaca = block("PROMPT_TEMPLATE={{ i"), block('PROMPT_TEMPLATE="###')
    for text, empty, filled in [
        (simple.removeprefix("PROMPT_TEMPLATE=").strip(), "Do", "Do Context: x"),
        (
            json.loads(alpaca.removeprefix("PROMPT_TEMPLATE=")),
            "### Instruction:\nDo\n\n### Response:\n",
            "### Instruction:\nDo\n\n### Input:\nx\n\n### Response:\n",
        ),
    ]:
        rows = read([{"instruction": "Do", "context": cell, "input": cell} for cell in ("", "x")])
        assert to_prompts(rows, ColumnMapping("input", "", "", text)) == [empty, filled]


@pytest.mark.parametrize("make", [
    lambda rows: {"data": rows},
    lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    lambda rows: {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]},
    lambda rows: {str(index): row for index, row in enumerate(rows)},
    lambda rows: {"train": rows[:1], "test": rows[1:]},
])  # fmt: skip
def test_each_layout_of_json_is_read(make: Callable):
    rows = [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]
    Path("a.json").write_text(json.dumps(make(rows)))
    assert read_table(Source("FILE", "a.json", split="all")).rows.to_list() == rows


def test_numbers_of_a_spreadsheet_are_the_texts_on_the_page():
    numbers, texts = re.search(r"^\| `1`, (.*) \| `1`, (.*?):", PAGE, re.MULTILINE).groups()
    shown = [number_text(number) for number in (1.0, 0.1 + 0.2, 1e20)]
    assert numbers == "`1.0`, `0.1 + 0.2`, 1E+20"
    assert ", ".join(f"`{text}`" for text in shown) == texts


def test_the_endings_on_the_page_are_those_that_are_read():
    named = set(re.findall(r"`(\.\w+)`", PAGE))
    assert set(SUFFIXES) - {".ndjson", ".jsonl", ".json"} <= named


def test_the_look_on_the_page_is_what_prepare_prints_of_the_demo(run_job, capsys):
    assert run_job("prepare")[0] == 0
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.replace(f"{ROOT}/", "").splitlines()]
    shown = [" ".join(line.split()) for line in block("demo: 960").splitlines()]
    assert [line for line in shown if line not in printed] == []
