"""Out of memory, injected: the micro-batch shrinks, the result stays."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from job.preflight import memory as memory_check
from job.preflight.memory import (
    find_micro_batch,
    longest_batch,
    longest_row,
    preserved_state,
    run_largest_step,
)
from job.training.step import Stepper
from tests.tiny_models import adapted, load, rows

pytestmark = pytest.mark.slow

FEW_STEPS = {"NUM_TRAIN_EPOCHS": "1", "LOGGING_STEPS": "1", "LORA_DROPOUT": "0", "MAX_NEW_TOKENS": "4", "EVAL_MAX_ROWS": "4"}


@pytest.fixture
def run(run_job, t5_folder, write_rows, questions):
    """Runs a small training, or another command, under the given name: (exit code, what was said, the adapter as one vector)."""

    def run(name: str, command: str = "train", **variables: str):
        code, said = run_job(command, MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), RUN_NAME=name, **FEW_STEPS | variables)
        weights = Path("output") / name / "adapter" / "adapter_model.safetensors"
        tensors = load_file(weights) if weights.exists() else {}
        return code, said, torch.cat([tensors[key].flatten() for key in sorted(tensors)]) if tensors else None

    return run


_whole: list[torch.Tensor] = []


@pytest.fixture
def whole(run) -> torch.Tensor:
    """The adapter of a run that has all the memory it needs, made once."""
    if not _whole:
        _whole.append(run("whole")[2])
    return _whole[0]


def limited_objective(patch: pytest.MonkeyPatch, limit: int) -> list[int]:
    """Out of memory above `limit` rows at once while a step is computed; the rows of each try."""
    usual, tries = Stepper._backward, []

    def backward(stepper, rows, seeds):
        original = stepper.objective

        def objective(model, batch):
            tries.append(len(batch["attention_mask"]))
            if tries[-1] > limit:
                raise torch.OutOfMemoryError("injected")
            return original(model, batch)

        patch.setattr(stepper, "objective", objective)
        try:
            return usual(stepper, rows, seeds)
        finally:
            stepper.objective = original

    patch.setattr(Stepper, "_backward", backward)
    return tries


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).norm() / expected.norm() < 1e-5)


@pytest.mark.parametrize("fits", [4, 2, 1])
def test_what_does_not_fit_is_found_before_the_first_step_and_the_adapter_is_the_same(run, whole, monkeypatch, fits):
    original = memory_check.check_largest_step

    def limited(model, rows, tokenizer, micro_batch):
        if micro_batch > fits:
            raise torch.OutOfMemoryError("injected")
        original(model, rows, tokenizer, micro_batch)

    monkeypatch.setattr(memory_check, "check_largest_step", limited)
    code, said, split = run("split")
    assert code == 0, said
    assert f"{fits} x {8 // fits} from here on" in said
    assert same(split, whole)
    assert json.loads(Path("output/split/plan.json").read_text())["micro_batch"] == fits


def test_out_of_memory_in_mid_run_repeats_the_step_in_halves_with_the_same_result(run, whole, monkeypatch):
    """The third step fails once: it is repeated, not those before it, and nothing is loaded again."""
    usual, steps = Stepper._backward, []

    def once(stepper, rows, seeds):
        steps.append((seeds[1], stepper.micro_batch))
        loss = usual(stepper, rows, seeds)
        if len(steps) == 3:
            raise torch.OutOfMemoryError("injected")
        return loss

    monkeypatch.setattr(Stepper, "_backward", once)
    code, said, found = run("found", SAVE_STRATEGY="steps", SAVE_STEPS="1")
    assert code == 0, said
    assert steps == [(0, 8), (1, 8), (2, 8), (2, 4), (3, 4)], "two steps, the failure, and the two steps that were left in halves"
    assert same(found, whole)
    assert "out of memory with a micro-batch of 8 rows: 4 x 2 from here on; the result is the same" in said
    assert "resuming from" not in said
    assert json.loads(Path("output/found/plan.json").read_text())["micro_batch"] == 4


@pytest.mark.parametrize(("limit", "tries"), [(4, [8, 4, 4]), (2, [8, 4, 2, 2, 2, 2])])
def test_out_of_memory_in_the_first_step_repeats_it_with_the_same_result(run, whole, monkeypatch, limit, tries):
    tried = limited_objective(monkeypatch, limit)
    code, said, split = run("split")
    assert code == 0, said
    assert tried[: len(tries)] == tries
    assert same(split, whole)
    assert json.loads(Path("output/split/plan.json").read_text())["micro_batch"] == limit


def test_out_of_memory_with_dropout_is_bit_for_bit_that_of_the_smaller_micro_batch(run, monkeypatch):
    """What was drawn in the step that failed changes nothing."""
    _, _, expected = run("small", LORA_DROPOUT="0.2", PER_DEVICE_TRAIN_BATCH_SIZE="4")
    limited_objective(monkeypatch, 4)
    code, said, found = run("large", LORA_DROPOUT="0.2")
    assert code == 0, said
    assert torch.equal(found, expected)


def test_one_row_that_does_not_fit_is_72(run, monkeypatch):
    limited_objective(monkeypatch, 0)
    code, said, adapter = run("none")
    assert code == 72
    assert said.splitlines()[-1].startswith("One row does not fit the memory. Set GRADIENT_CHECKPOINTING=true")
    assert adapter is None


def test_the_rehearsal_leaves_neither_gradients_nor_randomness_behind(run, monkeypatch):
    _, _, without = run("without", LORA_DROPOUT="0.2")
    tried = []

    def rehearse_all_the_same(*arguments):
        memory_check.run_largest_step(*arguments)
        tried.append(arguments)

    monkeypatch.setattr(memory_check, "check_largest_step", rehearse_all_the_same)
    _, _, with_rehearsal = run("with", LORA_DROPOUT="0.2")
    assert tried
    assert torch.equal(with_rehearsal, without)


def test_out_of_memory_in_the_evaluation_answers_fewer_rows_at_once_and_the_same(run, monkeypatch):
    from transformers import T5ForConditionalGeneration

    run("whole", "run")
    original = T5ForConditionalGeneration.generate

    def limited(model, *arguments, **options):
        if len(options["input_ids"]) > 2:
            raise torch.OutOfMemoryError("injected")
        return original(model, *arguments, **options)

    monkeypatch.setattr(T5ForConditionalGeneration, "generate", limited)
    code, said, _ = run("split", "run")
    assert code == 0, said
    assert "generate: out of memory with 4 rows at once, 2 from here on" in said
    assert Path("output/split/evaluation.csv").read_text() == Path("output/whole/evaluation.csv").read_text()


@pytest.mark.parametrize(("fits", "expected"), [(9, 6), (6, 6), (5, 4), (3, 3), (1, 1)])
def test_the_largest_micro_batch_that_fits_is_found(monkeypatch, fits, expected):
    tried = []

    def check(model, rows, tokenizer, micro_batch):
        tried.append(micro_batch)
        if micro_batch > fits:
            raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(memory_check, "check_largest_step", check)
    assert find_micro_batch(None, None, None, wanted=6, effective=12) == expected
    assert tried == [size for size in (6, 4, 3, 2, 1) if size >= expected]


def test_the_longest_row_is_the_longest_input_with_the_longest_answer_wherever_they_stand(t5_folder, llama_folder, tokenizer):
    data = Dataset.from_list(rows(causal=False))  # the longest input is the first row's, the longest answer the second's
    model = adapted(load(t5_folder))
    found = longest_row(model, data)
    assert found == {"input_ids": data[0]["input_ids"], "labels": data[1]["labels"]}
    batch = longest_batch(model, data, tokenizer)
    assert batch["input_ids"].shape == (1, 32), "padded to a multiple of eight, as in training"
    assert batch["labels"][0, :12].tolist() == data[1]["labels"]


def test_of_a_causal_models_longest_row_every_token_is_in_the_loss(llama_folder):
    """More than any row has, and so enough memory for all."""
    data = Dataset.from_list(rows(causal=True))
    longest = data[0]["input_ids"]
    assert len(longest) == 38
    assert longest_row(adapted(load(llama_folder)), data) == {"input_ids": longest, "labels": longest}


def test_a_trial_leaves_neither_gradients_nor_randomness_behind(t5_folder, tokenizer):
    model = adapted(load(t5_folder), lora_dropout=0.1)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    run_largest_step(model, Dataset.from_list(rows(causal=False)), tokenizer, 2)
    assert torch.rand(1) == expected
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_trial_that_runs_out_of_memory_leaves_the_random_state_as_well(t5_folder):
    def draw_and_fail() -> None:
        torch.rand(1)
        raise torch.OutOfMemoryError("injected")

    model = adapted(load(t5_folder))
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    with pytest.raises(torch.OutOfMemoryError), preserved_state(model):
        draw_and_fail()
    assert torch.rand(1) == expected
