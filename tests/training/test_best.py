"""The best evaluation's adapter is the run's, patience ends a run, and both survive an interruption."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file

from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.training.best import forget_after, keep_adapter, take_best_adapter

EVALUATED = {
    "EVAL_STRATEGY": "steps", "EVAL_STEPS": 2, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 3, "LOGGING_STEPS": 1, "MAX_STEPS": 12,
    "RUN_NAME": "r", "MAX_NEW_TOKENS": 4, "METRICS": "exact_match,loss", "LEARNING_RATE": 0.1,
}  # fmt: skip


@pytest.fixture
def model(t5_folder):
    base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
    return add_lora(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q"], init_lora_weights=False))


def weights(model) -> dict:
    return {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}


def shift(model) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)


def test_the_adapter_that_was_kept_last_comes_back(model, tmp_path):
    assert take_best_adapter(model, tmp_path) is None
    keep_adapter(model, tmp_path, 4)
    shift(model)
    kept = weights(model)
    keep_adapter(model, tmp_path, 10)
    shift(model)
    assert take_best_adapter(model, tmp_path) == 10
    assert all(torch.equal(tensor, kept[name]) for name, tensor in weights(model).items())


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
    assert take_best_adapter(model, tmp_path) == 6


def test_a_torn_one_does_not_count(model, tmp_path):
    keep_adapter(model, tmp_path, 4)
    checkpoint(tmp_path, 5)
    keep_adapter(model, tmp_path, 6)
    (tmp_path / "best-6" / "adapter_model.safetensors").write_bytes(b"torn")
    assert take_best_adapter(model, tmp_path) == 4


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
