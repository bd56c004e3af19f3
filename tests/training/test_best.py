"""The best evaluation's adapter is the run's, patience ends a run, and both survive an interruption."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from job.errors import DiskFailed
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.training import loop
from job.training.best import Best, best_of, forget_after, keep_adapter, kept_adapter, read_kept_adapter
from job.training.checkpoints import load_trained
from job.training.config import TrainingConfig
from job.training.supervision import Supervision
from tests.training.material import adapter_of, run

pytestmark = pytest.mark.slow

EVALUATED = {
    "EVAL_STRATEGY": "steps", "EVAL_STEPS": 2, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 3, "LOGGING_STEPS": 1, "MAX_STEPS": 12,
    "RUN_NAME": "r", "MAX_NEW_TOKENS": 4, "METRICS": "exact_match,loss", "LEARNING_RATE": 0.03,
}  # fmt: skip


@pytest.fixture
def model(t5_folder):
    base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    return add_lora(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q"], init_lora_weights=False))


def shift(model) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)


def test_the_adapter_that_was_kept_comes_back(model, tmp_path):
    kept = adapter_of(model).clone()
    keep_adapter(model, tmp_path, 4)
    shift(model)
    assert not torch.equal(adapter_of(model), kept)
    load_trained(model, read_kept_adapter(tmp_path, 4))
    assert torch.equal(adapter_of(model), kept)


def test_the_best_evaluation_is_the_first_of_equal_ones():
    history = [{"step": 1, "eval_f": 0.2}, {"step": 2, "loss": 3.0}, {"step": 2, "eval_f": 0.7}, {"step": 3, "eval_f": 0.7}]
    config = TrainingConfig(Path("checkpoints"), 4, metric_for_best_model="f", greater_is_better=True)
    assert best_of(history, config) == Best(2, 0.7, since=1)
    assert best_of(history, replace(config, greater_is_better=False)) == Best(1, 0.2, since=2)
    assert best_of(history, replace(config, metric_for_best_model="g")) is None
    assert best_of(history, replace(config, metric_for_best_model=None)) is None


def checkpoint(folder: Path, step: int) -> None:
    (folder / f"checkpoint-{step}").mkdir()


def test_what_a_run_that_goes_on_from_a_checkpoint_needs_is_kept(model, tmp_path):
    for step in (2, 4, 6):
        keep_adapter(model, tmp_path, step)
    checkpoint(tmp_path, 7)
    for step in (8, 10, 12):
        keep_adapter(model, tmp_path, step)
    assert sorted(path.name for path in tmp_path.glob("best-*")) == ["best-12", "best-6"], (
        "the newest, and that before the checkpoint"
    )
    forget_after(7, tmp_path)
    assert read_kept_adapter(tmp_path, 6)


def test_a_damaged_one_is_told_and_no_other_takes_its_place(model, tmp_path):
    keep_adapter(model, tmp_path, 4)
    checkpoint(tmp_path, 5)
    keep_adapter(model, tmp_path, 6)
    (tmp_path / "best-6" / "adapter.safetensors").write_bytes(b"torn")
    with pytest.raises(DiskFailed, match=r"best-6/adapter.safetensors: is not what was written. Run the same command again"):
        read_kept_adapter(tmp_path, 6)


def train_with_scores(folder, checkpoints, scores: list[float], stop_after: int | None = None, **options):
    """A training with an evaluation after each step that is given this score: result, adapters by step, the adapter at the end."""
    adapters, holder = {}, {}

    def score(step: int) -> dict[str, float]:
        adapters[step] = adapter_of(holder["model"]).clone()
        return {"exact_match": scores[step - 1]}

    def stop_asked() -> bool:
        return stop_after is not None and max(adapters, default=0) >= stop_after

    def evaluate(training):
        holder["model"] = training.model
        return usual(training)

    usual = loop.Training.evaluate
    options = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": len(scores)} | options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Training, "evaluate", evaluate)
        supervision = Supervision(score_answers=score, stop_asked=stop_asked)
        adapter, result = run(folder, checkpoints, supervision=supervision, **options)
    return result, adapters, adapter


CASES = [
    ([0.1, 0.5, 0.3, 0.4, 0.2], True, None, 2, 5),
    ([0.1, 0.5, 0.3, 0.4, 0.9], True, 2, 2, 4),
    ([0.5, 0.5, 0.5, 0.5, 0.5], True, None, 1, 5),
    ([0.5, 0.1, 0.3, 0.05, 0.2], False, None, 4, 5),
    ([0.5, 0.1, 0.3, 0.05, 0.2], False, 1, 2, 3),
]
"""Scores, whether more is better, patience, the best step, the last step."""


@pytest.mark.parametrize(("scores", "greater", "patience", "best", "last"), CASES)
@pytest.mark.parametrize("stop_after", [None, 1, 2, 3])
def test_the_adapter_is_that_of_the_best_evaluation_and_patience_ends_a_training_stopped_or_not(
    t5_folder, tmp_path, caplog, scores, greater, patience, best, last, stop_after
):
    caplog.set_level("INFO", "job")
    options = {"metric_for_best_model": "exact_match", "greater_is_better": greater, "patience": patience}
    adapters = {}
    if stop_after and stop_after < last:
        stopped, adapters, adapter = train_with_scores(t5_folder, tmp_path, scores, stop_after, **options)
        assert stopped.adapter_step == stopped.step, "a stopped training hands on no best adapter"
        assert stopped.step == stop_after + 1
        caplog.clear()
    result, later, adapter = train_with_scores(t5_folder, tmp_path, scores, **options)
    assert (result.step, result.adapter_step) == (last, best)
    assert torch.equal(adapter, (adapters | later)[best])
    said = f"the adapter is that of step {best} of {last}, where eval_exact_match was best: {scores[best - 1]:.4f}"
    assert caplog.messages.count(said) == 1
    ends = f"training ends at step {last} of 5: EARLY_STOPPING_PATIENCE, {patience} evaluations without a better exact_match"
    assert caplog.messages.count(ends) == (patience is not None)


def test_without_a_metric_nothing_is_kept_and_the_last_adapter_is_the_runs(t5_folder, tmp_path):
    result, adapters, adapter = train_with_scores(t5_folder, tmp_path, [0.9, 0.5, 0.1])
    assert (result.step, result.adapter_step) == (3, 3)
    assert torch.equal(adapter, adapters[3])
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_after_the_step_that_a_run_goes_on_from_is_forgotten(t5_folder, tmp_path):
    options = {"metric_for_best_model": "exact_match", "greater_is_better": True, "save_strategy": "steps", "save_steps": 2}
    train_with_scores(t5_folder, tmp_path, [0.1, 0.2, 0.9], **options)
    shutil.rmtree(tmp_path / "checkpoint-3")
    result, _, _ = train_with_scores(t5_folder, tmp_path, [0.1, 0.2, 0.15], **options)
    assert result.adapter_step == 2


@pytest.mark.parametrize("damaged", ["best-2", "best-4"])
def test_a_run_whose_best_adapter_is_damaged_ends_with_it_all_the_same(t5_folder, tmp_path, caplog, damaged):
    """It goes on from a checkpoint before that evaluation, or from the start."""
    scores = [0.1, 0.5, 0.3, 0.9, 0.2, 0.1]
    options = {"metric_for_best_model": "exact_match", "greater_is_better": True, "save_strategy": "steps", "save_steps": 3}
    _, _, expected = train_with_scores(t5_folder, tmp_path / "whole", scores, **options)
    train_with_scores(t5_folder, tmp_path / "cut", scores, **options)
    kept_adapter(tmp_path / "cut", int(damaged[-1])).joinpath("adapter.safetensors").write_bytes(b"torn")
    result, _, adapter = train_with_scores(t5_folder, tmp_path / "cut", scores, **options)
    assert result.adapter_step == 4
    assert torch.equal(adapter, expected)
    set_aside = f"checkpoint-6 needs {damaged}, the adapter of its best evaluation, which is not whole: set aside as"
    assert (set_aside in caplog.text) == (damaged == "best-4"), "of the last checkpoint best-4 alone is the best"


def evaluations(folder: str = "output/r", name: str = "eval_loss") -> dict[int, float]:
    history = json.loads(Path(folder, "history.json").read_text())
    return {entry["step"]: entry[name] for entry in history if name in entry}


def test_the_adapter_is_that_of_the_lowest_loss(run_job, t5_folder, write_rows, questions):
    others = [
        {"input": f"on {row['input']}", "output_ground_truth": "wxyz quick"} for row in questions[:8]
    ]  # what helps with dates soon hurts here
    variables = {
        "MODEL_ID": t5_folder,
        "TRAIN_DATA": write_rows(questions),
        "EVAL_DATA": write_rows(others, "others.csv"),
    } | EVALUATED
    code, said = run_job(**variables)
    assert code == 0, said
    losses = evaluations()
    best = min(losses, key=losses.get)
    assert best != 12, "the last step must not be the best one here"
    assert json.loads(Path("output/r/adapter/job.json").read_text())["adapter_step"] == best
    assert f"the adapter is that of step {best} of 12" in said
    last = run_job(**variables | {"RUN_NAME": "last", "LOAD_BEST_MODEL_AT_END": "false"})
    assert last[0] == 0, last[1]
    assert json.loads(Path("output/last/adapter/job.json").read_text())["adapter_step"] == 12
    one, other = (load_file(f"output/{name}/adapter/adapter_model.safetensors") for name in ("r", "last"))
    assert not all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_patience_ends_the_run_and_a_score_can_choose(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | EVALUATED
    variables |= {"METRIC_FOR_BEST_MODEL": "chrf", "EARLY_STOPPING_PATIENCE": 2, "MAX_STEPS": 60, "LEARNING_RATE": 0.001}
    code, said = run_job(**variables)
    assert code == 0, said
    scores = list(evaluations(name="eval_chrf").values())
    best = scores.index(max(scores))
    assert len(scores) == best + 1 + 2, "two evaluations after the best one, and no more"
    assert json.loads(Path("output/r/adapter/job.json").read_text())["adapter_step"] == 2 * (best + 1)


def test_a_score_that_does_not_exist_is_told_before_training(run_job, t5_folder, write_rows, questions):
    code, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), METRIC_FOR_BEST_MODEL="blue")
    assert code == 78
    assert 'METRIC_FOR_BEST_MODEL: no metric is named "blue"; there are exact_match' in said
    code, said = run_job(EVAL_STRATEGY="no", EARLY_STOPPING_PATIENCE=1)
    assert code == 78
    assert "EARLY_STOPPING_PATIENCE needs measurements, EVAL_STRATEGY=no is set" in said
