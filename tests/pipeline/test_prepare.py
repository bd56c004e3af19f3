"""The first step: all that can be known before weights are loaded, recorded and held to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from job.errors import HardwareError, InputMissing, SettingsError
from job.pipeline import prepare as module
from job.pipeline.prepare import BASE_MODEL, TRAINING_DATA, check_hardware, load_base_model, prepare_run
from job.pipeline.records import PlanRecord, SettingsRecord, StatusRecord
from job.pipeline.run_folder import RunFolder
from job.system.hardware import GIB, Hardware
from tests.zoo.families import build

V100 = Hardware("cuda", "Tesla V100", 16 * GIB, (7, 0))


def test_what_the_other_steps_need_is_known(make_context, t5_folder):
    context = make_context()
    assert (context.seq2seq, context.hardware.device, context.base.model_id) == (True, "cpu", str(t5_folder))
    assert (len(context.prepared.train), len(context.prepared.evaluation)) == (32, 8)
    assert context.plan == PlanRecord.read(context.folder.plan).training_plan
    assert (context.scoring.decoding.batch_size, context.scoring.decoding.max_new_tokens) == (32, 8)
    assert context.tokenizer.name_or_path == str(t5_folder)
    status = StatusRecord.read(context.folder.status)
    assert (status.state, status.stage) == ("running", "prepare")
    assert PlanRecord.read(context.folder.plan).seconds.keys() == {"preparation"}


def test_a_causal_model_is_known_as_one(make_context, llama_folder):
    context = make_context(model_id=str(llama_folder))
    assert not context.seq2seq
    assert all(len(row["input_ids"]) == len(row["labels"]) for row in context.prepared.train)


def test_the_languages_of_a_model_that_knows_some_are_told_once(make_context, tmp_path, caplog):
    build("nllb_plain", tmp_path / "nllb")
    caplog.set_level("INFO")
    make_context(model_id=str(tmp_path / "nllb"), target_language="deu_Latn", max_unknown_targets=1.0)
    assert caplog.text.count("inputs are read as eng_Latn, answers written as deu_Latn") == 1


def test_content_is_recorded_by_its_fingerprints(make_context):
    context = make_context()
    content = SettingsRecord.read(context.folder.settings).content
    assert content == {TRAINING_DATA: context.prepared.fingerprint, BASE_MODEL: content[BASE_MODEL]}
    assert len(content[BASE_MODEL]) == len(content[TRAINING_DATA]) == 64, "sha256"


def test_rows_at_once_and_longest_answers_are_what_was_set(make_context):
    decoding = make_context(per_device_eval_batch_size=3, max_new_tokens=5, num_beams=2).scoring.decoding
    assert (decoding.batch_size, decoding.max_new_tokens, decoding.num_beams) == (3, 5, 2)


def test_other_rows_are_refused(stopped_run, run_job):
    variables, _ = stopped_run
    path = Path(variables["TRAIN_DATA"])
    path.write_text(path.read_text().replace("the 7 of May", "the 8 of May"))
    code, said = run_job(**variables)
    assert code == 78, said
    assert "the rows, or how they are read, changed since this run was begun" in said


def test_before_a_run_is_begun_other_rows_replace_the_first(make_settings):
    settings = make_settings()
    folder = RunFolder.of(settings)
    folder.path.mkdir(parents=True)
    first = prepare_run(settings, folder).prepared.fingerprint
    path = Path("rows.csv")
    path.write_text(path.read_text().replace("the 7 of May", "the seventh of May"))
    second = prepare_run(settings, folder).prepared
    assert second.fingerprint != first
    assert "the seventh of May" in second.train["input"][:] + second.evaluation["input"][:]
    assert SettingsRecord.read(folder.settings).content[TRAINING_DATA] == second.fingerprint


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"report_to": "wandb"}, SettingsError, "REPORT_TO: wandb is not installed"),
        ({"quantization": "int8", "device": "auto"}, SettingsError, "QUANTIZATION=int8 needs a GPU"),
        ({"model_id": "./nowhere"}, InputMissing, "no such folder"),
        ({"train_data": "nothing.csv"}, InputMissing, "no such file"),
    ],
)
def test_what_cannot_be_is_told_before_rows_are_on_the_disk(make_context, monkeypatch, asked, error, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(error, match=message):
        make_context(**asked)
    assert {path.name for path in Path("output/r").iterdir()} == {"status.json"}


def test_trackers_and_machine_are_checked_before_the_model_is_looked_up(make_context, monkeypatch):
    monkeypatch.setattr(module, "load_config", lambda _: pytest.fail("the hub was asked"))
    with pytest.raises(SettingsError, match="REPORT_TO"):
        make_context(report_to="wandb")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HardwareError, match="no GPU is visible"):
        make_context(device="cuda")


def test_a_gpu_that_cannot_do_what_is_asked_is_refused_before_it_is_tried(make_settings, monkeypatch):
    tried = []
    monkeypatch.setattr(module, "detect", lambda device: V100)
    monkeypatch.setattr(module, "check_computes", lambda *arguments: tried.append(arguments))
    with pytest.raises(SettingsError, match=r"QUANTIZATION=int8 needs compute capability 7\.5, Tesla V100 has 7\.0"):
        check_hardware(make_settings(quantization="int8", device="auto"))
    with pytest.raises(SettingsError, match="PRECISION=bf16: Tesla V100 has no bfloat16"):
        check_hardware(make_settings(precision="bf16"))
    assert tried == []
    assert check_hardware(make_settings()) == V100
    assert tried == [(V100, torch.float16, False)]
    t4 = replace(V100, name="Tesla T4", capability=(7, 5))
    monkeypatch.setattr(module, "detect", lambda device: t4)
    check_hardware(make_settings(quantization="int8", device="auto"))
    assert tried[1] == (t4, torch.float16, True)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_are_held_as_the_plan_says(make_context, precision, dtype):
    context = make_context()
    model = load_base_model(replace(context, plan=replace(context.plan, precision=precision)))
    assert model.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == dtype
    assert model.device.type == "cpu"


def test_rows_that_were_prepared_are_not_prepared_again(make_context):
    first = make_context()
    before = (first.folder.data / "summary.json").stat().st_mtime_ns
    second = make_context()
    assert (second.folder.data / "summary.json").stat().st_mtime_ns == before
    assert json.loads((second.folder.data / "summary.json").read_text())["fingerprint"] == first.prepared.fingerprint
