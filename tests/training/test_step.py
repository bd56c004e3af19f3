"""One step: splitting an effective batch changes neither loss nor gradient, and float16 is scaled."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from job.errors import OutOfMemory
from job.training.step import FIRST_SCALE, SCALE_GROWS_AFTER, LossScale, next_smaller_micro_batch, seed_everything
from tests.training.material import adapter_of, begun, losses_of, make_model, rows, run


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_micro_batches_change_neither_loss_nor_adapter(kind, packed, request, tmp_path):
    folder = request.getfixturevalue(kind)
    adapter, whole = run(folder, tmp_path, packed=packed)
    for micro_batch in (1, 2, 3, 4):
        found, split = run(folder, tmp_path, micro_batch=micro_batch, packed=packed)
        assert losses_of(split) == pytest.approx(losses_of(whole), rel=1e-6)
        assert (found - adapter).norm() / adapter.norm() < 1e-5


def test_the_loss_is_the_models_own_mean_over_the_labels(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path, micro_batch=2)
    batch = training.order.batch(0)
    examples = [training.rows[row] for row in batch]
    base = make_model(t5_folder).eval()
    total = 0.0
    with torch.no_grad():
        for row in examples:
            loss = base(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item()
            total += loss * len(row["labels"])
    training.step()
    training.log_if_due()
    assert training.progress.history[0]["loss"] == pytest.approx(total / sum(len(row["labels"]) for row in examples), rel=1e-5)


def of_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    "lack_memory", [of_a_gpu, lambda: torch.empty(2**50), lambda: np.empty(2**50)], ids=["GPU", "torch on a CPU", "numpy"]
)
def test_out_of_memory_repeats_the_same_step_with_half_the_micro_batch(t5_folder, tmp_path, lack_memory):
    adapter, whole = run(t5_folder, tmp_path)
    training = begun(t5_folder, tmp_path)
    usual, sizes = training.stepper.objective, []

    class Small:
        def __call__(self, model, batch):
            sizes.append(len(batch["labels"]))
            if len(batch["labels"]) > 2:
                lack_memory()
            return usual(model, batch)

    training.stepper.objective = Small()
    while not training.is_finished():
        training.step()
        training.log_if_due()
    assert sizes[:6] == [8, 4, 2, 2, 2, 2]
    assert training.stepper.micro_batch == 2
    assert [entry["loss"] for entry in training.progress.history] == pytest.approx(losses_of(whole), rel=1e-6)
    assert (adapter_of(training.model) - adapter).norm() / adapter.norm() < 1e-5


def test_dropout_depends_on_seed_step_rank_and_micro_batch_and_on_nothing_drawn_before(t5_folder, tmp_path):
    one, _ = run(t5_folder, tmp_path, dropout=0.3, max_steps=2)
    training = begun(t5_folder, tmp_path, dropout=0.3, max_steps=2)
    torch.rand(100)
    training.step()
    torch.rand(7)
    training.step()
    assert torch.equal(adapter_of(training.model), one)


def test_seeds_that_differ_in_one_number_draw_differently():
    draws = set()
    for seeds in [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 4, 4), (1, 3, 3, 4), (2, 2, 3, 4), (2, 1, 3, 4)]:
        seed_everything(*seeds)
        draws.add(torch.rand(1).item())
    assert len(draws) == 6


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_float16_with_loss_scaling_trains_as_float32_does(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    _, exact = run(folder, tmp_path, max_steps=4)
    _, half = run(folder, tmp_path, max_steps=4, dtype=torch.float16)
    assert losses_of(half) == pytest.approx(losses_of(exact), rel=5e-3)
    assert half.history[-1]["skipped_steps"] == 0
    norms = [[entry["grad_norm"] for entry in result.history] for result in (half, exact)]
    assert norms[0] == pytest.approx(norms[1], rel=0.02), "gradients are unscaled before they are clipped"


def overflow_in(training, steps: set[int]) -> None:
    """Makes the gradient infinite in these steps."""
    parameter = next(parameter for parameter in training.model.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda gradient: gradient * float("inf" if training.progress.step in steps else 1))


def test_a_gradient_that_is_not_finite_skips_its_step_and_halves_the_scale(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path, dtype=torch.float16, max_steps=4)
    overflow_in(training, {1})
    adapters = []
    while not training.is_finished():
        training.step()
        training.log_if_due()
        adapters.append(adapter_of(training.model).clone())
    assert [entry["loss_scale"] for entry in training.progress.history] == [2**16, 2**15, 2**15, 2**15]
    assert training.progress.history[-1]["skipped_steps"] == 1
    assert torch.equal(adapters[1], adapters[0])
    assert not torch.equal(adapters[2], adapters[1])
    assert torch.isfinite(adapters[-1]).all()


def test_the_scale_doubles_after_many_good_steps_in_a_row_and_halves_at_each_bad_one():
    scale = LossScale(FIRST_SCALE)
    for _ in range(SCALE_GROWS_AFTER - 1):
        scale.update(is_finite=True)
    scale.update(is_finite=False)
    assert (scale.value, scale.skipped_steps, scale.skipped_in_a_row) == (FIRST_SCALE / 2, 1, 1)
    for _ in range(SCALE_GROWS_AFTER):
        scale.update(is_finite=True)
    assert (scale.value, scale.skipped_steps, scale.skipped_in_a_row) == (FIRST_SCALE, 1, 0)


def test_the_norm_is_that_before_clipping_and_the_step_is_that_after(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path, max_grad_norm=1e-3, learning_rate=1.0, optim="adamw_torch")
    examples = [dict(row) for row in rows(8, False)]
    training.stepper.gradient(examples, 8, (0, 0), training._requests)
    gradients = torch.cat([p.grad.flatten() for p in training.stepper.parameters if p.grad is not None])
    applied = []
    training.optimizer.register_step_pre_hook(lambda *_: applied.append(
        torch.cat([p.grad.flatten() for p in training.stepper.parameters if p.grad is not None]).norm().item()))  # fmt: skip
    norm = training.stepper.apply(training.optimizer, 1e-3)
    assert norm.item() == pytest.approx(gradients.norm().item(), rel=1e-5)
    assert applied == [pytest.approx(1e-3, rel=1e-3)]
    assert all(parameter.grad is None for parameter in training.stepper.parameters)


@pytest.mark.parametrize(
    ("effective", "sizes"), [(8, [8, 4, 2, 1]), (12, [12, 6, 4, 3, 2, 1]), (7, [7, 1]), (1, [1])]
)  # fmt: skip
def test_the_next_smaller_micro_batch_is_the_next_divisor_of_the_effective_batch(effective, sizes, caplog):
    for size, smaller in pairwise(sizes):
        assert next_smaller_micro_batch(size, effective) == smaller
        assert f"out of memory with a micro-batch of {size} rows: {smaller} x {effective // smaller} from here on" in caplog.text
    with pytest.raises(OutOfMemory, match=r"One row does not fit the memory. Set GRADIENT_CHECKPOINTING=true, QUANTIZATION=nf4"):
        next_smaller_micro_batch(1, effective)


def test_one_row_that_does_not_fit_is_computed_with_recomputed_blocks_and_the_result_is_the_same(t5_folder, tmp_path, caplog):
    adapter, _ = run(t5_folder, tmp_path)
    training = begun(t5_folder, tmp_path)
    training.stepper.may_recompute, usual, tried = True, training.stepper.objective, []

    def small(model, batch):
        tried.append((len(batch["labels"]), model.is_gradient_checkpointing))
        if not model.is_gradient_checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(model, batch)

    training.stepper.objective = small
    while not training.is_finished():
        training.step()
    assert tried[:5] == [(8, False), (4, False), (2, False), (1, False), (1, True)]
    assert "out of memory with one row at once: all blocks are recomputed from here on; the result is the same" in caplog.messages
    assert (adapter_of(training.model) - adapter).norm() / adapter.norm() < 1e-5


def test_what_a_library_calls_a_full_memory_is_one_too(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path)
    usual, failures = training.stepper.objective, [torch.AcceleratorError("CUDA error: out of memory")]
    failures.append(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))

    def small(model, batch):
        if failures:
            raise failures.pop()
        return usual(model, batch)

    training.stepper.objective = small
    training.step()
    assert training.stepper.micro_batch == 2
