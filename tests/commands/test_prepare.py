"""The command `prepare`: the rows on the disk and the plan, no weights, no GPU; the run after it takes both up."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from datasets import load_from_disk
from transformers import AutoTokenizer

from job.pipeline import prepare as step
from tests.conftest import FINISHED

ROOT = Path(__file__).parents[2]
LEFT = {".lock", "data", "data.html", "plan.json", "settings.json", "status.json"}


@pytest.fixture
def variables(t5_folder, write_rows, questions) -> dict:
    return {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | FINISHED


def test_it_leaves_rows_and_a_plan_and_loads_no_weights(variables, run_job, monkeypatch):
    monkeypatch.setattr(step, "load_base", lambda *_: pytest.fail("weights were loaded"))
    code, said = run_job("prepare", **variables)
    assert code == 0, said
    assert "prepared data: output/r/data" in said
    assert {path.name for path in Path("output/r").iterdir()} == LEFT
    assert json.loads(Path("output/r/plan.json").read_text())["micro_batch"] == 8


def test_it_needs_no_weights_on_the_disk(variables, run_job, t5_folder, tmp_path):
    shutil.copytree(t5_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    assert run_job("prepare", **variables | {"MODEL_ID": tmp_path / "bare"})[0] == 0


def test_every_row_is_there_once_as_the_tokenizer_has_it(variables, run_job, t5_folder):
    """Forty different rows, a fifth held out; each is its prompt and its answer, tokenised by the library."""
    assert run_job("prepare", **variables)[0] == 0
    train, held_out = (load_from_disk(f"output/r/data/{part}") for part in ("train", "eval"))
    assert (len(train), len(held_out)) == (32, 8)
    tokenizer = AutoTokenizer.from_pretrained(t5_folder)
    with Path(variables["TRAIN_DATA"]).open(newline="") as file:
        asked = {row["input"]: row["output_ground_truth"] for row in csv.DictReader(file)}
    rows = [*train, *held_out]
    assert {row["input"]: row["ground_truth"] for row in rows} == asked
    for row in rows:
        assert row["input_ids"] == tokenizer(f"Input: {row['input']}").input_ids
        assert row["labels"] == tokenizer(asked[row["input"]]).input_ids


def test_the_run_after_it_reads_the_rows_as_they_were_prepared(variables, run_job):
    assert run_job("prepare", **variables)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in Path("output/r/data").rglob("*") if path.is_file()}
    assert run_job("train", **variables)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_it_ends_with_a_look_at_the_data(variables, run_job, capsys):
    assert run_job("prepare", **variables)[0] == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "r: 32 training rows, 8 held out"
    assert lines[-1] == "The same as a page: output/r/data.html"
    first = load_from_disk("output/r/data/train")[0]
    place = lines.index(f"{first['row']}: reads {len(first['input_ids'])} tokens, learns to write {len(first['labels'])}")
    assert lines[place + 1 : place + 3] == [f"  reads   Input: {first['input']}</s>", f"  writes  {first['ground_truth']}</s>"]
    page = Path("output/r/data.html").read_text()
    assert f"Input: {first['input']}&lt;/s&gt;" in page


def test_what_limits_the_scores_is_told(variables, run_job, write_rows, questions, capsys):
    questions[20] = questions[19] | {"output_ground_truth": "06-20"}
    code, said = run_job("prepare", **variables | {"TRAIN_DATA": write_rows(questions)})
    assert code == 0, said
    assert "rows have the input of another row and another answer, so exact match can reach at most" in said
    assert 'row 21 says "05-20", row 22 "06-20"' in " ".join(capsys.readouterr().out.split())


def test_the_look_at_a_finished_run_is_printed_from_what_it_kept(finished_run, run_job, capsys):
    variables, _ = finished_run
    assert run_job("prepare", **variables)[0] == 0
    assert "  contradictions      none" in capsys.readouterr().out.splitlines()


def test_other_settings_may_follow_until_something_is_trained(variables, run_job):
    assert run_job("prepare", **variables)[0] == 0
    assert run_job("prepare", **variables | {"PROMPT_TEMPLATE": "Say {input}", "EVAL_FRACTION": 0.5})[0] == 0
    assert len(load_from_disk("output/r/data/eval")) == 20


def test_a_finished_run_stays_finished(finished_run, run_job):
    variables, folder = finished_run
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    code, said = run_job("prepare", **variables)
    assert code == 0, said
    assert "prepared data: output/r/data" in said
    assert {path: path.read_bytes() for path in before} == before


def test_overwrite_leaves_the_rows_alone_of_what_was_trained(finished_run, run_job):
    variables, folder = finished_run
    assert run_job("prepare", **variables | {"OVERWRITE": "true"})[0] == 0
    assert {path.name for path in folder.iterdir()} == LEFT


def test_the_look_in_the_docs_is_that_of_the_embedded_example(run_job, capsys):
    assert run_job("prepare")[0] == 0
    shown = capsys.readouterr().out.replace(f"{ROOT}/", "").splitlines()
    section = (ROOT / "docs" / "data.md").read_text().partition("## A look before training")[2]
    block = section[section.index("    demo: 960") :].partition("\nWhat is counted")[0].rstrip()
    assert [line.removeprefix("    ") for line in block.splitlines()] == shown
