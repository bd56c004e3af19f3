"""A card whose memory is full, once or for good, in each part of a run: the run goes on with less, or says what to do."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from job.pipeline import checks, prepare
from job.pipeline import evaluate as evaluate_step
from job.pipeline import train as train_step
from job.pipeline import verify as verify_step
from job.preflight import memory as rehearsal
from job.publish import reload
from job.training import loop
from job.training.step import Stepper
from tests.pretended_gpu import PretendedGpu

TORCH = partial(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB.")
DRIVER = partial(torch.AcceleratorError, "CUDA error: out of memory")
CUBLAS = partial(RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
BROKEN = partial(torch.AcceleratorError, "CUDA error: an illegal memory access was encountered")
FASTER = {"PADDING_FREE": "auto"}
"""Asks which of both is faster."""


def fail_in(patch: pytest.MonkeyPatch, part: tuple[Any, str], failure: Callable[[], BaseException], call: int = 1) -> Callable:
    """A change of a card: the first product in that call of a function of the job fails."""
    (owner, name), calls = part, []

    def change(gpu: PretendedGpu) -> None:
        usual = getattr(owner, name)

        def failing(*given: Any, **named: Any) -> Any:
            calls.append(1)
            left = [failure] if len(calls) == call else []
            gpu.fails = lambda: left.pop()() if left else None
            try:
                return usual(*given, **named)
            finally:
                gpu.fails = lambda: None
                assert not left, "it computed something"

        patch.setattr(owner, name, failing)

    return change


@pytest.mark.parametrize(
    ("part", "failure", "variables", "micro_batch"),
    [
        ((checks, "check_padding"), CUBLAS, {}, 8),
        ((checks, "check_precision"), TORCH, {}, 8),
        ((checks, "why_padded"), DRIVER, {}, 8),
        ((checks, "packing_is_faster"), CUBLAS, FASTER, 8),
        ((rehearsal, "run_largest_step"), DRIVER, {}, 4),
        ((train_step, "check_generation"), TORCH, {}, 8),
        ((Stepper, "_backward"), CUBLAS, {}, 4),
        ((loop, "held_out_loss"), DRIVER, {"EVAL_STRATEGY": "steps", "EVAL_STEPS": 2}, 8),
        ((evaluate_step, "compare_with_base"), CUBLAS, {}, 8),
        ((evaluate_step, "expected_answers"), TORCH, {}, 8),
    ],
    ids=lambda given: given[1] if isinstance(given, tuple) else "",
)
def test_a_memory_that_is_full_once_means_a_smaller_part(run_on, monkeypatch, part, failure, variables, micro_batch):
    change = fail_in(monkeypatch, part, failure)
    run = run_on("A100", "llama", change=change, **{"PADDING_FREE": "true"} | variables)
    assert run.code == 0, run.said
    plan = json.loads(Path("output/r/plan.json").read_text())
    assert plan["micro_batch"] == micro_batch
    assert plan["padding_free"], run.said
    assert run.gpu.live_bytes == 0


def test_a_later_step_that_does_not_fit_is_computed_in_smaller_parts(run_on, monkeypatch):
    run = run_on("T4", "t5", change=fail_in(monkeypatch, (Stepper, "_backward"), TORCH, call=3), PADDING_FREE="true")
    assert run.code == 0, run.said
    assert "out of memory with a micro-batch of 8 rows: 4 x 2 from here on" in run.said
    assert len(run.waits) == 4, "three steps, and one once more"


def test_a_proof_that_finds_no_room_is_not_done_and_that_is_said(run_on, monkeypatch):
    """Another process would end so."""
    monkeypatch.setattr(verify_step, "answer_in_fresh_process", lambda _task: None)
    monkeypatch.setattr(reload, "answer", None)
    run = run_on("A100", "llama", PADDING_FREE="true")
    assert run.code == 0, run.said
    assert "the adapter was not loaded again in a fresh process: no room in memory" in run.said


def test_one_row_that_does_not_fit_means_recomputed_blocks_then_nf4(run_on, monkeypatch):
    """Until the base is quantised the rehearsal finds no room, with one row and all blocks recomputed."""
    tried, usual = [], rehearsal.run_largest_step

    def small_memory(model: Any, rows: Any, tokenizer: Any, micro_batch: int) -> None:
        recomputed, quantised = model.is_gradient_checkpointing, getattr(model, "is_loaded_in_4bit", False)
        tried.append((micro_batch, recomputed, quantised))
        if not quantised:
            raise torch.OutOfMemoryError("injected")
        usual(model, rows, tokenizer, micro_batch)

    monkeypatch.setattr(rehearsal, "run_largest_step", small_memory)
    run = run_on("A100", "llama", PADDING_FREE="true")
    assert run.code == 0, run.said
    sizes = (8, 4, 2, 1)
    assert tried == [(size, False, False) for size in sizes] + [(size, True, False) for size in sizes] + [(8, True, True)]
    plan, record = (json.loads(Path("output/r", name).read_text()) for name in ("plan.json", "adapter/job.json"))
    assert (plan["quantization"], plan["checkpointed_blocks"], plan["micro_batch"]) == ("nf4", 2, 8)
    assert record["quantization"] == "nf4"


@pytest.mark.parametrize("asked", [{"QUANTIZATION": "none", "GRADIENT_CHECKPOINTING": "false"}, {"QUANTIZATION": "nf4"}])
def test_what_was_asked_for_is_not_changed_and_a_full_memory_ends_with_72(run_on, monkeypatch, asked):
    tried = []

    def full(model: Any, *_: Any) -> None:
        tried.append(model.is_gradient_checkpointing)
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(rehearsal, "run_largest_step", full)
    run = run_on("A100", "llama", PADDING_FREE="true", **asked)
    assert run.code == 72, run.said
    assert "One row does not fit the memory." in run.said
    assert any(tried) == ("GRADIENT_CHECKPOINTING" not in asked)
    assert json.loads(Path("output/r/status.json").read_text())["exit_code"] == 72


def test_weights_that_do_not_fit_are_quantised(run_on, monkeypatch):
    usual, given = train_step.load_base_model, []

    def load(context: Any) -> Any:
        given.append(context.plan.quantization)
        if given[-1] == "none":
            raise torch.OutOfMemoryError("injected")
        return usual(context)

    monkeypatch.setattr(train_step, "load_base_model", load)
    run = run_on("A100", "llama", PADDING_FREE="true")
    assert run.code == 0, run.said
    assert given == ["none", "none", "nf4"]


def test_a_card_that_breaks_is_no_full_memory(run_on, monkeypatch):
    run = run_on("A100", "llama", change=fail_in(monkeypatch, (checks, "why_padded"), BROKEN), PADDING_FREE="true")
    assert run.code == 70, run.said


def test_a_plan_fills_what_other_processes_left(run_on, monkeypatch):
    def taken(gpu: PretendedGpu) -> None:
        gpu.limit_bytes = 12 * 2**30

    run = run_on("T4", "llama", change=taken, PADDING_FREE="true")
    assert run.code == 0, run.said
    assert "Tesla T4, 14.6 GiB, 2.6 of them taken by other processes" in run.said
    assert json.loads(Path("output/r/plan.json").read_text())["gpu_memory_gib"] == pytest.approx(12, abs=0.01)
    assert prepare.detect("cpu").taken_bytes == 0
