"""The step that trains: smaller micro-batches where the memory ends, the clock, and what the adapter's record says."""

import json
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from job.errors import OutOfMemory
from job.model.packing import PACKED
from job.pipeline import train as module
from job.pipeline.records import AdapterRecord, PlanRecord, StatusRecord
from job.pipeline.train import train
from job.system.signals import stop_signals
from job.training.supervision import Supervisor
from job.training.train import TrainingResult
from tests.conftest import STOPPED

RESULT = TrainingResult(
    step=4, total_steps=6, adapter_step=2, examples_per_s=12.34567, history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
)


class Training:
    """Stands for the loop: notes what it is given, and has no memory for more than so many rows at once."""

    def __init__(self, fits: int = 8) -> None:
        self.fits, self.tries, self.models, self.supervision = fits, [], [], None

    def train(self, model, arguments, *others) -> TrainingResult:
        self.tries.append((arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps))
        self.models.append(id(model))
        self.supervision, self.packed = others[2], model.get_base_model().config._attn_implementation == PACKED
        if arguments.per_device_train_batch_size > self.fits:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(float("nan"))  # whatever a step that failed has left
            raise torch.OutOfMemoryError("injected")
        return RESULT


@pytest.fixture
def loop(monkeypatch):
    """Puts a `Training` in the place of the loop."""

    def arrange(**options) -> Training:
        made = Training(**options)
        monkeypatch.setattr(module, "training", made)
        monkeypatch.setattr(module, "free_memory", lambda: None)  # takes half a second
        monkeypatch.setattr(stop_signals, "received", None)
        return made

    return arrange


@pytest.mark.parametrize(("fits", "tries"), [(8, [(8, 1)]), (4, [(8, 1), (4, 2)]), (1, [(8, 1), (4, 2), (2, 4), (1, 8)])])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_effective_one(make_context, loop, fits, tries):
    context, training = make_context(), loop(fits=fits)
    model = train(context)
    assert training.tries == tries
    assert PlanRecord.read(context.folder.plan).micro_batch == fits
    assert training.packed, "a new model packs rows as the first one did"
    weights = load_file(context.folder.adapter / "adapter_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values()), "nothing of the failed try is left"
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_divisors_of_the_effective_batch_are_tried_and_none_below_one_row(make_context, loop):
    context, training = make_context(effective_batch_size=6), loop(fits=0)
    with pytest.raises(OutOfMemory, match="One row does not fit the memory"):
        train(context)
    assert training.tries == [(6, 1), (3, 2), (2, 3), (1, 6)]
    assert not context.folder.adapter.exists()


def test_every_try_begins_with_the_same_adapter(make_context, monkeypatch):
    begun = []

    def note(model, arguments, *_):
        begun.append({name: parameter.clone() for name, parameter in model.named_parameters() if parameter.requires_grad})
        if arguments.per_device_train_batch_size > 4:
            raise torch.OutOfMemoryError("injected")
        return RESULT

    monkeypatch.setattr(module.training, "train", note)
    train(make_context())
    first, second = begun
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(tensor.abs().sum() > 0 for tensor in first.values())


def test_the_adapter_says_how_it_wants_to_be_asked(make_context, loop, t5_folder):
    loop()
    context = make_context(prompt_template="Say {input}", max_source_length="400", num_beams=2)
    train(context)
    assert AdapterRecord.read(context.folder.adapter_record) == AdapterRecord(
        base_model=str(t5_folder), seq2seq=True, chat=False, messages_column="messages", input_column="input",
        prompt_template="Say {input}", max_new_tokens=8, num_beams=2, precision="fp32", quantization="none", steps=4,
        adapter_step=2, total_steps=6, preprocess=None, max_source_length=400,
    )  # fmt: skip
    assert json.loads(context.folder.history.read_text()) == RESULT.history


@pytest.mark.parametrize(("wanted", "expected"), [("auto", None), ("7", 7), ("400", 400), ("p50", "measured")])
def test_the_longest_input_is_recorded_where_a_person_limited_it(make_context, loop, wanted, expected):
    """A percentile is that of the rows; a number holds even where no row is as long."""
    loop()
    context = make_context(max_source_length=wanted, max_truncated_targets=1)
    train(context)
    found = AdapterRecord.read(context.folder.adapter_record).max_source_length
    assert found == (max(map(len, context.prepared.train["input_ids"])) if expected == "measured" else expected)


@pytest.mark.parametrize(("predicted", "factor", "measured"), [(None, 1.0, None), (10.0, 1.0, 1.2346), (10.0, 0.5, 0.6173)])
def test_what_was_measured_is_compared_with_a_plan_that_knew_no_measurement(make_context, loop, predicted, factor, measured):
    """12.34567 examples a second; a prediction that was halved by an earlier measurement expected 20 without it."""
    loop()
    context = make_context()
    record = PlanRecord.read(context.folder.plan)
    replace(record, predicted_examples_per_s=predicted, speed_factor=factor).write(context.folder.plan)
    train(context)
    found = PlanRecord.read(context.folder.plan)
    assert (found.measured_examples_per_s, found.measured_speed_factor) == (12.346, measured)
    assert (found.measured_peak_gib, found.padding_free) == (None, True)
    assert set(found.seconds) == {"preparation", "training"}


def test_a_stop_ends_it_after_the_step_without_an_adapter_and_with_its_seconds(make_context, loop, monkeypatch):
    context, training = make_context(), loop()
    usual = training.train

    def stopped(*arguments):
        assert stop_signals._deferred, "a signal is only noted while a step is computed"
        monkeypatch.setattr(stop_signals, "received", "SIGTERM")
        assert arguments[4].stop_asked()
        return usual(*arguments)

    training.train = stopped
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGTERM\. Run the same command again to resume\."):
        train(context)
    assert not stop_signals._deferred
    assert not context.folder.adapter.exists()
    assert "training" in PlanRecord.read(context.folder.plan).seconds


def test_the_loop_obeys_what_was_set_and_reports_to_the_status(make_context, loop):
    context, training = make_context(checkpoint_minutes=2, grace_s=7, early_stopping_patience=3, eval_strategy="epoch"), loop()
    train(context)
    told = training.supervision
    assert (told.checkpoint_s, told.grace_s, told.patience, told.deadline) == (120, 7, 3, float("inf"))
    told.report(step=3, total_steps=8, loss=0.5)
    status = StatusRecord.read(context.folder.status)
    assert (status.stage, status.step, status.total_steps, status.loss) == ("train", 3, 8, 0.5)


def test_the_deadline_leaves_time_to_answer_twice_and_to_publish(make_context, loop, monkeypatch):
    """Two hours, of which the process is a while old; base and adapter answer for 100 s each, publishing takes 60."""
    training = loop()
    monkeypatch.setattr(module, "check_generation", lambda *_: 100.0)
    context = make_context(max_hours=2)
    train(context)
    age_s = time.time() - psutil.Process().create_time()
    assert training.supervision.deadline - time.monotonic() == pytest.approx(7200 - age_s - 200 - 60, abs=1)


@pytest.mark.parametrize(("device", "asked", "answered"), [("cpu", {}, 0), ("cpu", {"max_hours": 2}, 1)])
def test_answers_are_tried_before_training_where_they_cost_something(make_context, loop, monkeypatch, device, asked, answered):
    loop()
    calls = []
    monkeypatch.setattr(module, "check_generation", lambda *_: calls.append(1) or 0.0)
    train(make_context(**asked))
    assert len(calls) == answered


def test_max_hours_ends_the_training_but_not_the_run(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | STOPPED
    code, said = run_job(**variables | {"MAX_HOURS": 0.0001})
    assert code == 0, said
    assert "MAX_HOURS: training ends at step 1 of 8; what was learned is kept" in said
    assert json.loads(Path("output/r/status.json").read_text())["state"] == "done"
    assert json.loads(Path("output/r/adapter/job.json").read_text())["steps"] == 1


def test_a_checkpoint_is_due_by_the_clock(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | STOPPED
    del variables["SAVE_STEPS"]
    never_saves = variables | {"SAVE_STRATEGY": "no", "MAX_STEPS": 4}
    kept = []
    usual = Supervisor.saved

    def saved(self, state):
        kept.append(state.global_step)
        usual(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervisor, "saved", saved)
        assert run_job("train", **never_saves)[0] == 0
        assert kept == []
        assert run_job("train", **never_saves | {"RUN_NAME": "timed", "CHECKPOINT_MINUTES": 1e-9})[0] == 0
    assert kept == [1, 2, 3, 4]
