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
from job.model.packing import accepts_packed
from job.pipeline import train as module
from job.pipeline.records import AdapterRecord, PlanRecord, StatusRecord
from job.pipeline.train import train
from job.system.progress_lines import ProgressLines
from job.system.ranks import Ranks
from job.system.signals import stop_signals
from job.training.loop import Training, TrainingResult
from job.training.step import Stepper
from tests.conftest import STOPPED

RESULT = TrainingResult(
    step=4, total_steps=6, adapter_step=2, micro_batch=8, examples_per_s=12.34567,
    history=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
)  # fmt: skip


class Loop:
    """Stands for the loop: notes what it is given."""

    def train(self, model, data, collate, config, micro_batch, surroundings) -> TrainingResult:
        self.data, self.config, self.micro_batch, self.surroundings = data, config, micro_batch, surroundings
        self.supervision, self.packed = surroundings.supervision, accepts_packed(model)
        self.batch = collate([{name: data[0][0][name] for name in ("input_ids", "labels")}])
        return RESULT


@pytest.fixture
def loop(monkeypatch):
    """Puts a `Loop` in the place of the loop."""

    def arrange() -> Loop:
        made = Loop()
        monkeypatch.setattr(module, "loop", made)
        monkeypatch.setattr(stop_signals, "received", None)
        return made

    return arrange


class Two(Ranks):
    """One of two processes, the other of which says the same, or what it is told to."""

    def __init__(self, rank: int, other: object = None) -> None:
        super().__init__(rank, 2, rank)
        object.__setattr__(self, "other", other)

    def gather(self, value):
        return [value, value if self.other is None or type(self.other) is not type(value) else self.other]

    def broadcast(self, value):
        return value


def test_the_loop_gets_the_prepared_rows_the_planned_micro_batch_and_a_model_that_packs(make_context, loop):
    context, training = make_context(), loop()
    train(context)
    assert training.data == (context.prepared.train, context.prepared.evaluation)
    assert (training.micro_batch, training.config.effective_batch_size) == (8, 8)
    assert training.config.checkpoints == context.folder.checkpoints
    assert training.packed
    assert "slots" in training.batch, "rows are collated as the model takes them"
    assert PlanRecord.read(context.folder.plan).micro_batch == 8


def test_a_smaller_micro_batch_found_before_or_while_training_is_kept_in_the_plan(make_context, loop, monkeypatch):
    context, training = make_context(), loop()
    monkeypatch.setattr(module, "find_micro_batch", lambda *_: 4)
    train(context)
    assert training.micro_batch == 4
    assert PlanRecord.read(context.folder.plan).micro_batch == 4
    training.supervision.micro_batch_changed(2)
    assert PlanRecord.read(context.folder.plan).micro_batch == 2


@pytest.mark.parametrize(("other", "expected"), [(3, 3), (4, 4), (8, 4)])
def test_a_micro_batch_is_at_most_a_ranks_share_and_what_fits_every_rank(make_context, loop, other, expected):
    """Eight rows on two ranks: four on each."""
    training = loop()
    train(replace(make_context(), ranks=Two(0, other)))
    assert training.micro_batch == expected


def tried_steps(monkeypatch, limit: int) -> list[tuple]:
    """Out of memory above `limit` rows at once, noticed after the gradient was begun: micro-batch, adapter and gradient of each
    try."""
    usual, tries = Stepper._backward, []

    def backward(stepper, rows, seeds):
        gradient = [parameter.grad for parameter in stepper.parameters]
        tries.append((stepper.micro_batch, [parameter.detach().clone() for parameter in stepper.parameters], gradient))
        loss = usual(stepper, rows, seeds)
        if stepper.micro_batch > limit:
            raise torch.OutOfMemoryError("injected")
        return loss

    monkeypatch.setattr(Stepper, "_backward", backward)
    return tries


def test_divisors_of_the_effective_batch_are_tried_and_none_below_one_row(make_context, monkeypatch):
    context, tries = make_context(effective_batch_size=6), tried_steps(monkeypatch, 0)
    with pytest.raises(OutOfMemory, match="One row does not fit the memory"):
        train(context)
    assert [micro_batch for micro_batch, *_ in tries] == [6, 3, 2, 1, 1], "at last with all blocks recomputed"
    assert not context.folder.adapter.exists()


@pytest.mark.parametrize("fits", [4, 1])
def test_every_try_begins_with_the_same_adapter_and_nothing_of_the_failed_one_is_left(make_context, monkeypatch, fits):
    context = make_context(max_steps=1)
    tries = tried_steps(monkeypatch, fits)
    model = train(context)
    assert [micro_batch for micro_batch, *_ in tries] == [size for size in (8, 4, 2, 1) if size >= fits]
    first = tries[0][1]
    assert any(tensor.abs().sum() > 0 for tensor in first)
    for _, adapter, gradients in tries:
        assert all(torch.equal(tensor, other) for tensor, other in zip(adapter, first, strict=True))
        assert gradients == [None] * len(first)
    assert PlanRecord.read(context.folder.plan).micro_batch == fits
    weights = load_file(context.folder.adapter / "adapter_model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize(("asked", "called"), [({}, ["set_seed"]), ({"full_determinism": True}, ["enable_full_determinism"])])
def test_the_seed_is_set_before_the_model_is_made(make_context, loop, monkeypatch, asked, called):
    loop()
    calls = []
    for name in ("set_seed", "enable_full_determinism"):
        monkeypatch.setattr(module, name, lambda seed, name=name: calls.append((name, seed)))
    load = module.load_base_model
    monkeypatch.setattr(module, "load_base_model", lambda context: calls.append("load") or load(context))
    train(make_context(seed=7, **asked))
    assert calls == [*((name, 7) for name in called), "load"]


def test_only_the_main_rank_reports_measures_and_saves(make_context, loop):
    context, training = make_context(), loop()
    train(replace(context, ranks=Two(1)))
    assert training.surroundings.reporters == []
    assert not context.folder.adapter.exists()
    assert not context.folder.history.exists()
    train(replace(context, ranks=Two(0)))
    assert isinstance(training.surroundings.reporters[0], ProgressLines)
    assert len(training.surroundings.reporters) == 2
    assert training.surroundings.ranks.world_size == 2
    assert context.folder.adapter.exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_another_process_stops_this_one_as_well(make_context, loop, monkeypatch, rank):
    context, training = make_context(), loop()
    usual = training.train
    training.train = lambda *arguments: replace(usual(*arguments), is_stopped=True)
    with pytest.raises(KeyboardInterrupt, match=r"stopped by a signal to another process of this run\. Run the same command"):
        train(replace(context, ranks=Two(rank, True)))
    assert not context.folder.adapter.exists()


def test_a_signal_after_the_last_step_waits_until_the_adapter_is_on_the_disk(make_context, loop, monkeypatch):
    """With SAVE_STRATEGY=no nothing else holds what was learned."""
    context, training = make_context(), loop()
    usual = training.train

    def signalled(*arguments):
        result = usual(*arguments)
        monkeypatch.setattr(stop_signals, "received", "SIGTERM")
        return result

    training.train = signalled
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"):
        train(context)
    assert (context.folder.adapter / "adapter_model.safetensors").exists()


def test_the_adapter_says_how_it_wants_to_be_asked(make_context, loop, t5_folder):
    loop()
    context = make_context(prompt_template="Say {input}", max_source_length="400", num_beams=2)
    train(context)
    assert AdapterRecord.read(context.folder.adapter_record) == AdapterRecord(
        base_model=str(t5_folder), seq2seq=True, chat=False, messages_column="messages", input_column="input",
        prompt_template="Say {input}", max_new_tokens=8, num_beams=2, precision="fp32", quantization="none", steps=4,
        adapter_step=2, total_steps=6, sealed=True, preprocess=None, max_source_length=400,
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
    assert set(found.seconds) == {"preparation", "check", "rehearsal", "training"}


def test_a_stop_ends_it_after_the_step_without_an_adapter_and_with_its_seconds(make_context, loop, monkeypatch):
    context, training = make_context(), loop()
    usual = training.train

    def stopped(*arguments):
        assert stop_signals._deferred, "a signal is only noted while a step is computed"
        monkeypatch.setattr(stop_signals, "received", "SIGTERM")
        assert arguments[5].supervision.stop_asked()
        return replace(usual(*arguments), is_stopped=True)

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
    assert (told.checkpoint_s, told.grace_s, told.deadline, training.config.patience) == (120, 7, float("inf"), 3)
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
    usual = Training.save

    def save(self):
        kept.append(self.progress.step)
        usual(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "save", save)
        assert run_job("train", **never_saves)[0] == 0
        assert kept == []
        assert run_job("train", **never_saves | {"RUN_NAME": "timed", "CHECKPOINT_MINUTES": 1e-9})[0] == 0
    assert kept == [1, 2, 3, 4]
    assert sorted(path.name for path in Path("output/timed/checkpoints").iterdir()) == ["checkpoint-3", "checkpoint-4"]
