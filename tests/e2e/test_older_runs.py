"""Run folders that older versions left serve every command that reads a finished run."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from job import __version__
from job.evaluation.evaluate import read_csv

pytestmark = pytest.mark.slow

RUNS = Path(__file__).parents[1] / "fixtures" / "run_folders"
DATA = {"t5": "rows.csv", "llama_chat": "rows.jsonl"}
OLDER = sorted(str(path.relative_to(RUNS)) for path in RUNS.glob("*/*"))
"""Version and, where several wrote as 0.2.0 before it was released, commit; then the kind of model."""


@pytest.fixture(params=OLDER)
def old_run(request, tmp_path) -> dict:
    """The variables that a run of an older version was made with; its folder is in this test's own.

    All of them had the base, the rows and the tokenizer of 0.1.0's.
    """
    kind = Path(request.param).name
    shutil.copytree(RUNS / "0.1.0" / kind, tmp_path, dirs_exist_ok=True)
    tokenizer = (tmp_path / "run" / "adapter" / "tokenizer.json").read_bytes()
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(RUNS / request.param, tmp_path, dirs_exist_ok=True)
    (tmp_path / "run" / "adapter" / "tokenizer.json").write_bytes(tokenizer)
    return {
        "MODEL_ID": "base", "TRAIN_DATA": DATA[kind], "RUN_NAME": "run", "OUTPUT_DIR": ".", "MAX_STEPS": 12,
        "LEARNING_RATE": 0.02, "LORA_R": 2, "EVAL_STRATEGY": "steps", "EVAL_STEPS": 6, "LOGGING_STEPS": 4, "MAX_NEW_TOKENS": 8,
    } | ({"METRICS": "exact_match,chrf,loss"} if kind == "llama_chat" else {})  # fmt: skip


def recorded() -> list[dict]:
    return read_csv(Path("run/evaluation.csv"))


def test_a_finished_run_is_still_finished(old_run, run_job):
    before = Path("run/evaluation.csv").read_bytes()
    code, said = run_job(**old_run)
    assert code == 0, said
    assert "run is finished: nothing to do" in said
    assert " on 6 rows: " in said.partition("verdict: ")[2].splitlines()[0]
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
    (settings["settings"] if "format" in settings else settings)["lora_r"] = 16
    Path("other/settings.json").write_text(json.dumps(settings))
    code, said = run_job("compare", "run", "other", **old_run)
    assert code == 0, said
    printed = capsys.readouterr().out
    assert "LORA_R  2    16" in printed
    assert "exact match" in printed


def test_check_finds_it_sound_as_far_as_it_can_tell(old_run, run_job):
    code, said = run_job("check", **old_run)
    assert code == 0, said
    assert "6 of 6 answers the same" in said
    assert said.splitlines()[-1] == "run is sound"


def test_a_damaged_adapter_of_it_is_told_and_made_again(old_run, run_job, write_rows):
    weights = Path("run/adapter/adapter_model.safetensors")
    weights.write_bytes(bytes(weights.stat().st_size))
    code, said = run_job("predict", str(write_rows([{"input": "a"}], "new.jsonl")), **old_run)
    assert code == 65
    assert "run/adapter: adapter_model.safetensors is damaged or missing" in said
    code, said = run_job(**old_run)
    assert code == 0, said
    assert "set aside as adapter.damaged" in said
    assert Path("run/adapter/manifest.json").exists()


def test_a_run_that_other_versions_began_says_so(old_run, run_job):
    path = Path("run/settings.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"lora_job": "0.0.9", "libraries": {"torch": "2.9.0", "peft": version("peft")}}))
    code, said = run_job("evaluate", **old_run)
    if "format" in content:  # 0.1.0 wrote no versions
        assert f"run was begun with lora-job 0.0.9, torch 2.9.0; this is lora-job {__version__}, torch {version('torch')}" in said
        kept = json.loads(path.read_text())
        assert (kept["lora_job"], kept["libraries"]["torch"]) == ("0.0.9", "2.9.0"), "those that the run was begun with"
    assert code == 0, said
