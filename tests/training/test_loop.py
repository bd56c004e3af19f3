"""A training that is stopped and begun again ends as one that was not, bit for bit; what is logged is what happened."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from job.errors import Diverged
from job.training.loop import TrainingResult
from job.training.supervision import Supervision
from tests.training.material import adapter_of, begun, losses_of, run

SAVED = {"save_strategy": "steps", "save_steps": 1}
COMPARED = ("step", "epoch", "loss", "grad_norm", "learning_rate", "eval_loss", "loss_scale", "skipped_steps")


def logged(result: TrainingResult) -> list[dict]:
    """The history without what a clock says."""
    return [{name: entry[name] for name in COMPARED if name in entry} for entry in result.history]


def stop_at_question(number: int) -> Supervision:
    """Asks for a stop from the so many-th question on."""
    asked = iter([False] * (number - 1) + [True] * 999)
    return Supervision(stop_asked=lambda: next(asked))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("t5_folder", {}),
        ("t5_folder", {"group_by_length": False, "logging_steps": 3, "lr_scheduler_type": "cosine", "warmup_steps": 0.3}),
        ("t5_folder", {"optim": "adafactor", "micro_batch": 3}),
        ("t5_folder", {"optim": "adamw_torch_fused", "packed": True}),
        ("t5_folder", {"optim": "paged_adamw_8bit"}),
        ("t5_folder", {"dtype": torch.float16}),
        ("llama_folder", {"eval_strategy": "steps", "eval_steps": 2}),
    ],
)
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
def test_a_training_that_was_stopped_twice_ends_as_an_untouched_one(kind, options, request, tmp_path):
    folder = request.getfixturevalue(kind)
    options = {"max_steps": 6, "dropout": 0.1} | options
    expected, whole = run(folder, tmp_path / "whole", **options)
    steps = []
    for _ in range(2):
        _, stopped = run(folder, tmp_path / "stopped", supervision=stop_at_question(3), **options)
        steps.append(stopped.step)
    assert 0 < steps[0] < steps[1] < 6
    adapter, resumed = run(folder, tmp_path / "stopped", **options)
    assert (resumed.step, resumed.total_steps, resumed.adapter_step) == (6, 6, 6)
    assert logged(resumed) == logged(whole)
    assert torch.equal(adapter, expected)


@pytest.mark.parametrize("question", [1, 2])
def test_a_stop_that_was_asked_for_before_the_first_step_is_obeyed_at_once_or_after_it(t5_folder, tmp_path, question):
    expected, _ = run(t5_folder, tmp_path / "whole")
    _, stopped = run(t5_folder, tmp_path / "stopped", supervision=stop_at_question(question))
    assert stopped.step == question - 1
    adapter, resumed = run(t5_folder, tmp_path / "stopped")
    assert resumed.step == 5
    assert torch.equal(adapter, expected)


def test_a_result_has_every_logged_point_and_the_median_speed(t5_folder, tmp_path):
    _, result = run(t5_folder, tmp_path, max_steps=4)
    assert [entry["step"] for entry in result.history] == [1, 2, 3, 4]
    assert [entry["epoch"] for entry in result.history] == [0.25, 0.5, 0.75, 1.0], "30 rows, 8 a step"
    speeds = sorted(point["examples_per_second"] for point in result.history[1:])
    assert result.examples_per_s == speeds[1], "the median of the last three: the first warms up"
    assert result.micro_batch == 8


def test_a_training_that_is_done_does_nothing_more(t5_folder, tmp_path):
    options = SAVED | {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}
    expected, whole = run(t5_folder, tmp_path, **options)

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    adapter, again = run(t5_folder, tmp_path, supervision=Supervision(score_answers=lambda _: pytest.fail("evaluated")), **options)
    assert (again.step, again.history, again.adapter_step) == (5, whole.history, whole.adapter_step)
    assert torch.equal(adapter, expected)
    assert files() == before


@pytest.mark.parametrize("stopped_after", [None, 2, 3, 4])
def test_the_first_step_is_logged_and_each_kth_with_the_mean_loss_since_the_last(t5_folder, tmp_path, stopped_after):
    _, every = run(t5_folder, tmp_path / "every", max_steps=7)
    losses = losses_of(every)
    if stopped_after:
        run(t5_folder, tmp_path / "third", max_steps=7, logging_steps=3, supervision=stop_at_question(stopped_after + 1))
    _, third = run(t5_folder, tmp_path / "third", max_steps=7, logging_steps=3)
    assert [entry["step"] for entry in third.history] == [1, 3, 6]
    expected = [losses[0], sum(losses[1:3]) / 2, sum(losses[3:6]) / 3]
    assert losses_of(third) == pytest.approx(expected, rel=1e-12)
    assert [entry["grad_norm"] for entry in third.history] == [every.history[step - 1]["grad_norm"] for step in (1, 3, 6)]
    assert [entry["learning_rate"] for entry in third.history] == pytest.approx([1e-2 * (7 - step) / 7 for step in (0, 2, 5)])


def test_the_padding_share_and_the_speed_are_those_of_the_batch(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path)
    chosen = [training.rows[row] for row in training.order.batch(0)]
    tokens = sum(len(row["input_ids"]) + len(row["labels"]) for row in chosen)
    width = sum(-(-max(len(row[side]) for row in chosen) // 8) * 8 for side in ("input_ids", "labels"))
    training.step()
    training.log_if_due()
    found = training.progress.history[0]
    assert found["padding_share"] == pytest.approx(1 - tokens / (8 * width), abs=1e-9)
    assert found["tokens_per_second"] / found["examples_per_second"] == pytest.approx(tokens / 8)


def test_what_is_scored_at_an_evaluation_is_logged_with_it(t5_folder, tmp_path):
    supervision = Supervision(score_answers=lambda step: {"exact_match": step + 0.5})
    _, result = run(t5_folder, tmp_path, supervision=supervision, eval_strategy="steps", eval_steps=2, max_steps=5)
    evaluations = [entry for entry in result.history if "eval_loss" in entry]
    assert [(entry["step"], entry["eval_exact_match"]) for entry in evaluations] == [(2, 2.5), (4, 4.5), (5, 5.5)]
    assert evaluations[0]["eval_samples_per_second"] == pytest.approx(5 / evaluations[0]["eval_runtime"])


@pytest.mark.parametrize(
    ("strategy", "steps"), [("no", []), ("steps", [3, 6, 9, 10]), ("epoch", [4, 8, 10])]
)  # 30 rows, 8 a step: four steps an epoch
def test_evaluations_and_checkpoints_are_due_by_steps_or_epochs_and_at_the_end(t5_folder, tmp_path, monkeypatch, strategy, steps):
    written = []
    monkeypatch.setattr("job.training.loop.write_checkpoint", lambda folder, *_: written.append(folder.name))
    options = {"eval_strategy": strategy, "eval_steps": 3, "save_strategy": strategy, "save_steps": 3}
    _, result = run(t5_folder, tmp_path, max_steps=10, **options)
    assert [entry["step"] for entry in result.history if "eval_loss" in entry] == steps
    assert written == [f"checkpoint-{step}" for step in steps]


def test_an_evaluation_leaves_no_trace_in_the_training(t5_folder, tmp_path):
    def draw(_: int) -> dict:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        return {"drawn": random.random() + np.random.rand() + torch.rand(1).item()}

    expected, plain = run(t5_folder, tmp_path / "plain", dropout=0.2)
    supervision = Supervision(score_answers=draw)
    found, watched = run(t5_folder, tmp_path / "eval", dropout=0.2, supervision=supervision, eval_strategy="steps", eval_steps=1)
    assert torch.equal(found, expected)
    assert losses_of(watched) == losses_of(plain)
    assert sum("eval_drawn" in entry for entry in watched.history) == 5


def test_a_reporter_is_told_the_step_it_begins_at_what_is_logged_and_the_end(t5_folder, tmp_path):
    class Reporter:
        def __init__(self) -> None:
            self.told = []

        def start(self, step, total_steps) -> None:
            self.told.append(("start", step, total_steps))

        def log(self, values, step) -> None:
            self.told.append((min(values.keys() & {"loss", "eval_loss"}), step))

        def close(self) -> None:
            self.told.append("close")

    options = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 3}
    first, second = Reporter(), Reporter()
    run(t5_folder, tmp_path, reporters=(first,), supervision=stop_at_question(2), **options)
    run(t5_folder, tmp_path, reporters=(second,), **options)
    assert first.told == [("start", 0, 3), ("loss", 1), "close"]
    assert second.told == [
        ("start", 1, 3), ("loss", 2), ("eval_loss", 2), ("loss", 3), ("eval_loss", 3), "close",
    ]  # fmt: skip


def test_a_loss_that_is_not_finite_stops_the_training(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path)
    with torch.no_grad():
        training.model.get_base_model().lm_head.weight[0, 0] = float("nan")
    training.step()
    with pytest.raises(Diverged, match="step 1: loss is nan"):
        training.log_if_due()


def overflow_in(training, steps: set[int]) -> None:
    """Makes the gradient infinite in these steps."""
    parameter = next(parameter for parameter in training.model.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda gradient: gradient * float("inf" if training.progress.step in steps else 1))


def test_gradients_that_are_never_finite_end_the_training(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path, dtype=torch.float16, max_steps=60)
    assert all(parameter.dtype == torch.float32 for parameter in training.stepper.parameters), "the adapter is never narrow"
    overflow_in(training, set(range(60)))
    for _ in range(24):
        training.step()
    with pytest.raises(Diverged, match="step 25: the gradient was not finite in 25 steps in a row"):
        training.step()


def test_the_loss_scale_is_part_of_a_checkpoint(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path, dtype=torch.float16, max_steps=4)
    overflow_in(training, {0})
    training.step()
    training.step()
    training.save()
    found = json.loads((tmp_path / "checkpoint-2" / "progress.json").read_text())["loss_scale"]
    assert found == {"value": 2**15, "good_steps": 1, "skipped_in_a_row": 0, "skipped_steps": 1}
    assert begun(t5_folder, tmp_path, dtype=torch.float16).stepper.scale == training.stepper.scale


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_trained_weight_that_is_not_finite_is_told_with_the_last_good_state(t5_folder, tmp_path, value):
    training = begun(t5_folder, tmp_path)
    training.step()
    training.save()
    frozen = next(parameter for parameter in training.model.parameters() if not parameter.requires_grad)
    names = {id(parameter): name for name, parameter in training.model.named_parameters()}
    trained = training.stepper.parameters[0]
    with torch.no_grad():
        frozen.flatten()[0] = value
        training.finish(keep_best=True)  # frozen: not what was trained
        trained[1, 0] = value
    for check in (training.save, lambda: training.finish(keep_best=True)):
        training.sealed = None
        with pytest.raises(Diverged) as raised:
            check()
        assert str(raised.value) == (
            f"the trained weights hold NaN or infinity ({names[id(trained)]}). The last finite checkpoint is "
            f"{tmp_path / 'checkpoint-1'}. With another RUN_NAME lower LEARNING_RATE, raise WARMUP_STEPS or set PRECISION=fp32."
        )
    assert adapter_of(training.model).isfinite().sum() == adapter_of(training.model).numel() - 1


def test_a_training_that_is_given_up_ends_there_and_so_does_one_that_was_stopped_before(t5_folder, tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 8} | SAVED
    seen = []

    def gives_up(evaluations: list[dict]) -> bool:
        seen.append(len(evaluations))
        return len(evaluations) == 2

    expected, whole = run(t5_folder, tmp_path / "whole", supervision=Supervision(gives_up=gives_up), **options)
    assert (whole.step, whole.total_steps, whole.is_stopped) == (4, 8, False)
    assert seen == [1, 2], "asked once after each evaluation"
    question = iter([False] * 4 + [True] * 99)
    run(t5_folder, tmp_path / "stopped", supervision=Supervision(gives_up=gives_up, stop_asked=lambda: next(question)), **options)
    adapter, resumed = run(t5_folder, tmp_path / "stopped", supervision=Supervision(gives_up=gives_up), **options)
    assert resumed.step == 4
    assert torch.equal(adapter, expected)


def test_nobody_is_asked_whether_to_give_up_a_training_that_is_at_its_end(t5_folder, tmp_path):
    asked = Supervision(gives_up=lambda evaluations: len(evaluations) == 2)
    _, result = run(t5_folder, tmp_path, supervision=asked, eval_strategy="steps", eval_steps=2, max_steps=4)
    assert (result.step, result.total_steps) == (4, 4)
