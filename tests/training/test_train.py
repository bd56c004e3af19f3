"""A training that is stopped and begun again ends as one that was not; what it hands on is what was logged."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from transformers import AutoTokenizer, TrainingArguments, set_seed

from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.training.supervision import Supervision
from job.training.train import TrainingResult, train
from tests.training.test_trainer import rows


@pytest.fixture
def trained(t5_folder, tmp_path):
    """Trains four steps in a folder, or until a stop is asked for: (result, adapter)."""

    def run(name: str, stop_asked=lambda: False) -> tuple[TrainingResult, dict[str, torch.Tensor]]:
        set_seed(0)
        base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu")
        model = add_lora(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q"], lora_dropout=0.1))
        arguments = TrainingArguments(
            output_dir=str(tmp_path / name), max_steps=4, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1,
            report_to="none", use_cpu=True, save_strategy="steps", save_steps=1, remove_unused_columns=False,
            label_names=["labels"], disable_tqdm=True, seed=5, train_sampling_strategy="group_by_length",
        )  # fmt: skip
        data = rows(20, causal=False)
        tokenizer = AutoTokenizer.from_pretrained(t5_folder)
        result = train(model, arguments, (data, data.select(range(4))), tokenizer, Supervision(stop_asked), None)
        return result, {name: tensor.clone() for name, tensor in get_peft_model_state_dict(model).items()}

    return run


def logged(result: TrainingResult) -> list[tuple[float, float]]:
    return [(point["step"], point["loss"]) for point in result.history if "loss" in point]


def test_a_stopped_training_ends_as_an_untouched_one(trained, tmp_path):
    whole, expected = trained("whole")
    asked = iter([False] * 4 + [True] * 99)
    stopped, _ = trained("stopped", lambda: next(asked))
    assert 0 < stopped.step < 4
    resumed, adapter = trained("stopped")
    assert (resumed.step, resumed.total_steps, resumed.adapter_step) == (4, 4, 4)
    assert logged(resumed) == logged(whole)
    assert all(torch.equal(adapter[name], tensor) for name, tensor in expected.items())


def test_the_result_has_every_logged_point_and_no_summary_of_the_library(trained):
    result, _ = trained("whole")
    assert [step for step, _ in logged(result)] == [1, 2, 3, 4]
    assert not any("train_runtime" in point for point in result.history)
    speeds = sorted(point["examples_per_second"] for point in result.history[1:])
    assert result.examples_per_s == speeds[1], "the median of the last three: the first warms up"


def test_a_training_that_is_done_does_nothing_more(trained, tmp_path):
    _, expected = trained("whole")
    before = {path: path.stat().st_mtime_ns for path in Path(tmp_path / "whole").rglob("*") if path.is_file()}
    again, adapter = trained("whole")
    assert again.step == 4
    assert all(torch.equal(adapter[name], tensor) for name, tensor in expected.items())
    assert {path: path.stat().st_mtime_ns for path in Path(tmp_path / "whole").rglob("*") if path.is_file()} == before
