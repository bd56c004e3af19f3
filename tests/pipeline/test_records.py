"""The records of a run: what is written is read again, an older format too, a newer one is refused in one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from job import __version__
from job.errors import DataError, SettingsError
from job.evaluation.verdict import MetricComparison, Verdict
from job.pipeline.records import (
    FORMAT,
    AdapterRecord,
    ExpectedAnswers,
    PlanRecord,
    ProofRecord,
    SettingsRecord,
    StatusRecord,
    VerdictRecord,
)
from job.plan.memory import TrainingPlan
from job.publish.verification import Difference

COMPARISON = MetricComparison("exact_match", 0.0, 0.9, 0.1, 0.9, 0.8, 0.95)
RECORDS = [
    SettingsRecord({"lora_r": 8, "metrics": ["loss"], "sheet": None}, {"the training data": "abc"}),
    PlanRecord("demo", "fp32", "none", 8, 2, True, gpu="T4", predicted_hours=[0.5, 1.0], seconds={"training": 3.5}),
    StatusRecord("running", stage="train", step=3, total_steps=9, loss=0.25, eta_s=12),
    StatusRecord("done", headline=COMPARISON, verdict="better"),
    ProofRecord(ExpectedAnswers(["a"], [0.5], [2.0], 8, 1)),
    ProofRecord(ExpectedAnswers(["a"], [0.5], [2.0], 8, 1), found=Difference(1, 1, 1e-7, 1e-3)),
    ProofRecord(ExpectedAnswers(["a"], [0.5], [2.0], 8, 1), skipped="no room in memory"),
    VerdictRecord(Verdict(20, "better", COMPARISON, (COMPARISON,), 'always "x"', None)),
    AdapterRecord("t5", True, False, "messages", "input", "Input: {input}", 20, 1, "fp32", "none", 10, 8, 10),
]
RUNS = Path(__file__).parents[1] / "fixtures" / "run_folders" / "0.1.0"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_written_is_read_again(tmp_path, record):
    record.write(tmp_path / "record.json")
    assert type(record).read(tmp_path / "record.json") == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_file_names_its_format_and_the_versions_that_wrote_it(tmp_path, record):
    record.write(tmp_path / "record.json")
    content = json.loads((tmp_path / "record.json").read_text())
    assert (content["format"], content["lora_job"]) == (FORMAT, __version__)
    assert content["libraries"]["torch"].startswith("2.10.0")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_newer_format_is_refused_in_one_line_that_says_what_to_do(tmp_path, record):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record.dump() | {"format": FORMAT + 1, "lora_job": "9.9"}))
    with pytest.raises(SettingsError) as raised:
        type(record).read(path)
    assert str(raised.value) == (
        f"{path}: format {FORMAT + 1}, written by lora-job 9.9; this is {__version__}, which reads formats up to {FORMAT}. "
        "Use the newer lora-job, or choose another RUN_NAME."
    )


@pytest.mark.parametrize(
    "damaged", ["", "{", "[]", "null", '{"format": 2}', '{"format": "two"}', '{"format": 2, "micro_batch": []}']
)
def test_a_damaged_file_is_an_error_of_the_data_and_names_the_file(tmp_path, damaged):
    (tmp_path / "plan.json").write_text(damaged)
    with pytest.raises(DataError, match=r"plan.json is damaged"):
        PlanRecord.read(tmp_path / "plan.json")


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        PlanRecord.read(tmp_path / "plan.json")


def test_the_training_plan_is_what_training_needs_of_the_record():
    record = PlanRecord("demo", "bf16", "nf4", 4, 2, True)
    assert record.training_plan == TrainingPlan("bf16", "nf4", 4, 2, True)
    assert replace(record, micro_batch=2).training_plan.micro_batch == 2


@pytest.mark.parametrize("name", ["t5", "llama_chat"])
def test_the_records_of_version_0_1_0_are_read(name):
    run = RUNS / name / "run"
    settings = SettingsRecord.read(run / "settings.json")
    assert settings.settings["lora_r"] == 2
    assert set(settings.content) == {"the training data", "the base model"}
    assert "content" not in settings.settings
    status = StatusRecord.read(run / "status.json")
    assert (status.state, status.headline.baseline) == ("done", 0.0)
    assert PlanRecord.read(run / "plan.json").training_plan == TrainingPlan("fp32", "none", 8, 0, True)
    proof = ProofRecord.read(run / "proof.json")
    assert (proof.is_complete, proof.found.same_outputs, len(proof.expected.outputs)) == (True, 6, 6)
    adapter = AdapterRecord.read(run / "adapter" / "job.json")
    assert (adapter.base_model, adapter.seq2seq, adapter.chat) == ("base", name == "t5", name == "llama_chat")


def test_a_proof_of_0_1_0_that_found_no_memory_is_complete(tmp_path):
    old = json.loads((RUNS / "t5" / "run" / "proof.json").read_text()) | {"found": None}
    (tmp_path / "proof.json").write_text(json.dumps(old))
    proof = ProofRecord.read(tmp_path / "proof.json")
    assert proof.is_complete
    assert str(proof) == "not done, no room in memory"
    del old["found"]
    (tmp_path / "proof.json").write_text(json.dumps(old))
    assert not ProofRecord.read(tmp_path / "proof.json").is_complete


def test_settings_keep_the_versions_that_a_run_was_begun_with(tmp_path):
    path = tmp_path / "settings.json"
    SettingsRecord({"lora_r": 8}).write(path)
    written = json.loads(path.read_text())
    assert (written["lora_job"], written["libraries"]["torch"]) == (__version__, torch.__version__.partition("+")[0])
    path.write_text(json.dumps(written | {"lora_job": "0.0.9", "libraries": {"torch": "2.9.0"}}))
    replace(SettingsRecord.read(path), settings={"lora_r": 9}).write(path)
    kept = json.loads(path.read_text())
    assert (kept["settings"], kept["lora_job"], kept["libraries"]) == ({"lora_r": 9}, "0.0.9", {"torch": "2.9.0"})
