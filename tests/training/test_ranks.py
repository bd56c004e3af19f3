"""Several processes train the adapter that one trains, and resume what another number of them began."""

import atexit
import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from job.training.checkpoints import newest_whole
from job.training.loop import TrainingResult
from tests.ports import free_port
from tests.training.material import ROOT, losses_of, run

EVALUATED = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"}


@functools.cache
def rank_server() -> subprocess.Popen:
    """What forks ranks; it ends with this process."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.training.material"]
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def run_ranks(
    world_size: int, folder: Path, checkpoints: Path, output: Path, **task: object
) -> tuple[torch.Tensor, TrainingResult]:
    """The same as `material.run`, in so many processes."""
    shared = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    logs = [output.with_name(f"{output.stem}-rank-{rank}.log") for rank in range(world_size)]
    ranks = [(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, log) for rank, log in enumerate(logs)]
    task |= {"output": output, "folder": folder, "checkpoints": checkpoints}
    server = rank_server()
    server.stdin.write(json.dumps({"ranks": ranks, "task": task}, default=str) + "\n")
    server.stdin.flush()
    assert json.loads(server.stdout.readline()) == [0] * world_size, logs[0].read_text()
    found = torch.load(output, weights_only=True)
    return found["adapter"], TrainingResult(**found["result"])


def check_against_one(folder: Path, tmp_path: Path, world_size: int, packed: bool, **options: object) -> None:
    """Losses, held-out losses and adapter of so many processes are those of one."""
    expected, one = run(folder, tmp_path / "one", packed=packed, **EVALUATED)
    options |= {"packed": packed} | EVALUATED
    found, several = run_ranks(world_size, folder, tmp_path / "several", tmp_path / "result.pt", **options)
    assert losses_of(several) == pytest.approx(losses_of(one), rel=1e-5)
    held_out = [[entry["eval_loss"] for entry in result.history if "eval_loss" in entry] for result in (several, one)]
    assert len(held_out[0]) == 3
    assert held_out[0] == pytest.approx(held_out[1], rel=1e-5)
    assert (found - expected).norm() / expected.norm() < 1e-5
    assert [entry["step"] for entry in several.history] == [entry["step"] for entry in one.history]


@pytest.mark.parametrize(
    ("kind", "world_size", "micro_batch", "packed"),
    [
        ("t5_folder", 2, 8, True),
        pytest.param("t5_folder", 3, 1, False, marks=pytest.mark.slow),
        pytest.param("llama_folder", 2, 2, False, marks=pytest.mark.slow),
        pytest.param("llama_folder", 3, 8, True, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_processes_has_the_losses_and_the_adapter_of_one(kind, world_size, micro_batch, packed, request, tmp_path):
    check_against_one(request.getfixturevalue(kind), tmp_path, world_size, micro_batch=micro_batch, packed=packed)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 2)])
def test_a_stop_on_some_ranks_is_resumed_on_others_with_the_same_adapter(first, second, t5_folder, tmp_path):
    """The last rank alone is asked to stop: all stop after the same step, with a checkpoint that knows no number of ranks."""
    expected, whole = run(t5_folder, tmp_path / "whole", max_steps=8, **EVALUATED)
    options = {"max_steps": 8, "stop_after": 4} | EVALUATED
    folder = tmp_path / "stopped"
    _, stopped = run_ranks(first, t5_folder, folder, tmp_path / "first.pt", **options)
    assert 1 <= stopped.step < 8
    assert newest_whole(folder).name == f"checkpoint-{stopped.step}"
    found, resumed = run_ranks(second, t5_folder, folder, tmp_path / "second.pt", max_steps=8, **EVALUATED)
    assert resumed.step == 8
    assert losses_of(resumed) == pytest.approx(losses_of(whole), rel=1e-5)
    assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.mark.slow
def test_a_stop_that_came_to_one_rank_before_the_first_step_stops_all(t5_folder, tmp_path):
    expected, _ = run(t5_folder, tmp_path / "whole")
    _, stopped = run_ranks(2, t5_folder, tmp_path / "stopped", tmp_path / "first.pt", stop_after=0)
    assert stopped.step == 0
    found, resumed = run_ranks(2, t5_folder, tmp_path / "stopped", tmp_path / "second.pt")
    assert resumed.step == 5
    assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.mark.slow
def test_where_one_rank_runs_out_of_memory_all_repeat_the_step_with_half_the_micro_batch(t5_folder, tmp_path):
    expected, one = run(t5_folder, tmp_path / "one", **EVALUATED)
    options = {"micro_batch": 4, "rows_that_fit": 2} | EVALUATED
    found, several = run_ranks(2, t5_folder, tmp_path / "several", tmp_path / "result.pt", **options)
    assert several.micro_batch == 2
    assert losses_of(several) == pytest.approx(losses_of(one), rel=1e-5)
    assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.mark.slow
def test_patience_and_the_best_adapter_are_those_of_one_process(t5_folder, tmp_path):
    options = {
        "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss", "patience": 1, "learning_rate": 0.5,
        "max_steps": 9,
    }  # fmt: skip
    expected, one = run(t5_folder, tmp_path / "one", **options)
    assert one.adapter_step < one.step < 9, "patience must end it here"
    found, several = run_ranks(2, t5_folder, tmp_path / "several", tmp_path / "result.pt", **options)
    assert (several.step, several.adapter_step) == (one.step, one.adapter_step)
    assert (found - expected).norm() / expected.norm() < 1e-5


@pytest.mark.slow
def test_ranks_of_one_number_resume_bit_for_bit(t5_folder, tmp_path):
    options = {"max_steps": 6, "dropout": 0.2}
    expected, _ = run_ranks(2, t5_folder, tmp_path / "whole", tmp_path / "whole.pt", **options)
    run_ranks(2, t5_folder, tmp_path / "stopped", tmp_path / "stopped.pt", stop_after=3, **options)
    found, _ = run_ranks(2, t5_folder, tmp_path / "stopped", tmp_path / "resumed.pt", **options)
    assert torch.equal(found, expected)


def test_a_checkpoint_holds_safetensors_and_json_alone(t5_folder, tmp_path):
    run(t5_folder, tmp_path, save_strategy="steps", save_steps=2, **EVALUATED)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            with safe_open(path, "pt") as tensors:
                assert list(itertools.islice(tensors.keys(), 1))
