"""The evaluation of a run: replaced whole or left as it is, its verdict made once, a person's metric executed once."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from job.errors import OutOfMemory
from job.evaluation import verdict as verdict_module
from job.evaluation.verdict import read_verdict
from job.model.answering import FILE, read_answering_config
from job.model.lora import load_adapter
from job.pipeline import evaluate as module
from job.pipeline import status as status_module
from job.pipeline.evaluate import evaluate, is_evaluated, verdict_of
from job.pipeline.prepare import load_base_model
from job.pipeline.records import PlanRecord, ProofRecord, SettingsRecord

COUNTED = """
from pathlib import Path
with Path("executed.txt").open("a") as file: file.write("once\\n")
def longer(output, truth):
    return len(output) - len(truth)
"""


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def model(finished_context):
    return load_adapter(load_base_model(finished_context), finished_context.folder.adapter)


def changed(context, **changes):
    """The context with other settings."""
    return replace(context, settings=context.settings.model_copy(update=changes))


def test_a_new_evaluation_replaces_all_of_the_last_one(finished_context, model):
    folder = finished_context.folder
    before = PlanRecord.read(folder.plan).seconds["evaluation"]
    scoring = replace(finished_context.scoring, metrics=("exact_match",))
    evaluate(replace(changed(finished_context, eval_max_rows=3, metrics=("exact_match",)), scoring=scoring), model)
    rows = read_rows(folder.evaluation)
    assert list(rows[0]) == [
        "input", "ground_truth", "base_output", "adapter_output", "baseline_output", "base_exact_match", "adapter_exact_match",
        "baseline_exact_match",
    ]  # fmt: skip
    assert [row["input"] for row in rows] == finished_context.prepared.evaluation["input"][:3]
    assert verdict_of(folder).rows == 3
    assert SettingsRecord.read(folder.settings).settings["eval_max_rows"] == 3
    proof = ProofRecord.read(folder.proof)
    assert proof.expected.outputs == [row["adapter_output"] for row in rows]
    assert not proof.is_complete, "it was not verified yet"
    assert PlanRecord.read(folder.plan).seconds["evaluation"] >= before


def test_an_adapter_of_0_1_0_gets_what_its_answers_began_and_ended_with_before_anybody_else_answers(
    finished_context, model, monkeypatch
):
    folder = finished_context.folder
    kept = folder.adapter / FILE
    written = kept.read_bytes()
    evaluate(finished_context, model)
    assert kept.read_bytes() == written, "what is there stays"
    kept.unlink()

    def fail(*_: object) -> None:
        raise OutOfMemory("no room")

    monkeypatch.setattr(module, "write_csv", fail)
    with pytest.raises(OutOfMemory):
        evaluate(finished_context, model)
    assert read_answering_config(folder.adapter).to_dict() == finished_context.answering.to_dict()


def test_scores_are_those_of_the_texts_beside_them(finished_context, model):
    evaluate(finished_context, model)
    for row in read_rows(finished_context.folder.evaluation):
        for side in ("base", "adapter", "baseline"):
            assert float(row[f"{side}_exact_match"]) == (row[f"{side}_output"] == row["ground_truth"])
    verdict = verdict_of(finished_context.folder)
    losses = [float(row["adapter_loss"]) for row in read_rows(finished_context.folder.evaluation)]
    (loss,) = [one for one in verdict.compared if one.metric == "loss"]
    assert loss.adapter == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("failing", ["compare_with_base", "expected_answers", "write_csv", "read_verdict"])
def test_an_evaluation_that_fails_leaves_all_of_the_last_one(finished_context, model, monkeypatch, failing):
    folder = finished_context.folder
    names = ("evaluation.csv", "verdict.json", "proof.json", "settings.json")
    before = {name: (folder.path / name).read_bytes() for name in names}

    def fail(*_: object) -> None:
        raise OutOfMemory("no room")

    monkeypatch.setattr(module, failing, fail)
    with pytest.raises(OutOfMemory):
        evaluate(changed(finished_context, eval_max_rows=3), model)
    assert {name: (folder.path / name).read_bytes() for name in names} == before
    assert not folder.new_evaluation.exists()


def test_an_evaluation_counts_where_it_is_what_the_settings_ask_for(finished_context):
    assert is_evaluated(finished_context)
    assert is_evaluated(changed(finished_context, logging_steps=7))
    assert not is_evaluated(changed(finished_context, metrics=("chrf",)))
    assert not is_evaluated(changed(finished_context, num_beams=2))
    finished_context.folder.proof.unlink()
    assert not is_evaluated(finished_context)


def test_a_failing_verdict_leaves_no_file(finished_context):
    folder = finished_context.folder
    folder.verdict.unlink()
    folder.evaluation.write_text("input,ground_truth,base_output,adapter_output,base_chrf,adapter_chrf\na,b,c,d,x,y\n")
    with pytest.raises(ValueError, match="could not convert"):
        verdict_of(folder)
    assert not folder.verdict.exists()


def test_the_verdict_is_that_of_the_table_and_is_kept(finished_context):
    folder = finished_context.folder
    folder.verdict.unlink()
    made = verdict_of(folder)
    assert made == read_verdict(folder.evaluation)
    folder.evaluation.unlink()
    assert verdict_of(folder) == made, "what was made once is not made again"


def test_the_verdict_that_was_kept_reads_as_the_one_that_was_made(finished_context):
    assert str(verdict_of(finished_context.folder)) == str(read_verdict(finished_context.folder.evaluation))


def test_a_run_makes_its_verdict_once_and_the_next_ones_not_at_all(
    run_job, t5_folder, write_rows, questions, monkeypatch, fresh_process
):
    calls, usual = [], verdict_module.bootstrap_intervals
    monkeypatch.setattr(verdict_module, "bootstrap_intervals", lambda scores: calls.append(scores.shape) or usual(scores))
    monkeypatch.setattr(verdict_module, "_no_better_than_baseline", lambda *_: None)  # which asks for intervals of its own
    Path("own.py").write_text(COUNTED)
    variables = {
        "MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "MAX_STEPS": 2, "EVAL_STEPS": 1,
        "EVAL_STRATEGY": "steps", "METRIC_FOR_BEST_MODEL": "longer", "METRIC": "own.py:longer", "METRICS": "exact_match",
        "MAX_NEW_TOKENS": 4,
    }  # fmt: skip
    code, said = run_job(**variables)
    assert code == 0, said
    assert calls == [(8, 2)]
    assert Path("executed.txt").read_text() == "once\n", "for tries, two evaluations while training, and the one after it"
    rows = read_rows(Path("output/r/evaluation.csv"))
    assert all(float(row["adapter_longer"]) == len(row["adapter_output"]) - len(row["ground_truth"]) for row in rows)
    assert run_job(**variables)[0] == 0
    assert calls == [(8, 2)]
    assert Path("executed.txt").read_text() == "once\n", "of a finished run it is not executed at all"


def test_an_evaluation_that_fails_leaves_the_last_one(finished_run, run_job):
    variables, folder = finished_run
    before = (folder / "evaluation.csv").read_text()
    Path("mine.py").write_text("def late(output, truth):\n    late.calls = getattr(late, 'calls', 0) + 1\n"
                               "    if late.calls > 3: raise SystemExit(0)\n    return 1.0\n")  # fmt: skip
    code, said = run_job("evaluate", **variables | {"METRIC": "mine.py:late"})
    assert code == 78
    assert "METRIC=mine.py:late raised SystemExit" in said
    assert (folder / "evaluation.csv").read_text() == before
    assert run_job(**variables)[0] == 0


def test_an_evaluation_shows_signs_of_life(finished_run, run_job, monkeypatch):
    seen = []
    usual = status_module.write_status

    def write_status(folder, status):
        seen.append(status)
        usual(folder, status)

    monkeypatch.setattr(status_module, "write_status", write_status)
    monkeypatch.setattr(status_module, "HEARTBEAT_EVERY_S", 0)
    variables, _ = finished_run
    assert run_job("evaluate", **variables | {"PER_DEVICE_EVAL_BATCH_SIZE": 4, "METRICS": "exact_match"})[0] == 0
    rows = [(status.computing, status.rows, status.total_rows) for status in seen if status.computing]
    assert rows == [("generate", 4, 8), ("generate", 8, 8)] * 2
    assert all(status.stage == "evaluate" for status in seen if status.computing)


def test_a_persons_own_metric_is_a_column(finished_run, run_job):
    variables, folder = finished_run
    Path("own.py").write_text("def longer(output, truth):\n    return len(output) - len(truth)\n")
    assert run_job("evaluate", **variables | {"METRIC": "own.py:longer", "METRICS": "exact_match"})[0] == 0
    rows = read_rows(folder / "evaluation.csv")
    assert all(float(row["adapter_longer"]) == len(row["adapter_output"]) - len(row["ground_truth"]) for row in rows)
    assert json.loads((folder / "verdict.json").read_text())["verdict"]["headline"]["metric"] == "longer"
