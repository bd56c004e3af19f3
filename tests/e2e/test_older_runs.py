"""Run folders that older versions left serve every command that reads a finished run."""

import csv
import json
import shutil
from pathlib import Path

import pytest

RUNS = Path(__file__).parents[1] / "fixtures" / "run_folders" / "0.1.0"
DATA = {"t5": "rows.csv", "llama_chat": "rows.jsonl"}


@pytest.fixture(params=sorted(DATA))
def old_run(request, tmp_path) -> dict:
    """The variables that a run of 0.1.0 was made with; its folder is in this test's own."""
    shutil.copytree(RUNS / request.param, tmp_path, dirs_exist_ok=True)
    return {
        "MODEL_ID": "base", "TRAIN_DATA": DATA[request.param], "RUN_NAME": "run", "OUTPUT_DIR": ".", "MAX_STEPS": 12,
        "LEARNING_RATE": 0.02, "LORA_R": 2, "EVAL_STRATEGY": "steps", "EVAL_STEPS": 6, "LOGGING_STEPS": 4, "MAX_NEW_TOKENS": 8,
    } | ({"METRICS": "exact_match,chrf,loss"} if request.param == "llama_chat" else {})  # fmt: skip


def recorded() -> list[dict]:
    with Path("run/evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_is_still_finished(old_run, run_job):
    before = Path("run/evaluation.csv").read_bytes()
    code, said = run_job(**old_run)
    assert code == 0, said
    assert "run is finished: nothing to do" in said
    assert "verdict: no measurable difference on 6 rows" in said
    assert Path("run/evaluation.csv").read_bytes() == before


def test_its_own_settings_are_still_held_against_others(old_run, run_job):
    code, said = run_job(**old_run | {"LORA_R": 4})
    assert code == 78
    assert "LORA_R was 2 and is 4" in said


def test_predict_answers_as_was_recorded(old_run, run_job, write_rows):
    before = recorded()
    chat = old_run["TRAIN_DATA"].endswith("jsonl")
    rows = [{"messages": [{"role": "user", "content": row["input"]}]} if chat else {"input": row["input"]} for row in before]
    code, said = run_job("predict", str(write_rows(rows, "new.jsonl")), "answers.jsonl", **old_run)
    assert code == 0, said
    answers = [json.loads(line)["output"] for line in Path("answers.jsonl").read_text().splitlines()]
    assert answers == [row["adapter_output"] for row in before]


def test_merge_makes_one_model_of_it(old_run, run_job):
    code, said = run_job("merge", **old_run)
    assert code == 0, said
    compared = json.loads(Path("run/merged/merge.json").read_text())
    assert compared["the adapter as it was trained"]["same_outputs"] == 6


def test_evaluate_gives_the_scores_that_it_had(old_run, run_job):
    before = recorded()
    code, said = run_job("evaluate", **old_run)
    assert code == 0, said
    after = recorded()
    assert [float(row["adapter_loss"]) for row in after] == pytest.approx([float(row["adapter_loss"]) for row in before], rel=1e-5)
    assert [row["adapter_output"] for row in after] == [row["adapter_output"] for row in before]
    assert json.loads(Path("run/settings.json").read_text())["format"] == 2


def test_compare_reads_it_beside_another(old_run, run_job, capsys):
    shutil.copytree("run", "other")
    settings = json.loads(Path("other/settings.json").read_text())
    Path("other/settings.json").write_text(json.dumps(settings | {"lora_r": 16}))
    code, said = run_job("compare", "run", "other", **old_run)
    assert code == 0, said
    printed = capsys.readouterr().out
    assert "LORA_R  2    16" in printed
    assert "exact match" in printed
