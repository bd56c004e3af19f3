"""The command `status`: what status.json of a run says, for a person."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from job.commands.status import describe_status
from job.pipeline.records import StatusRecord

TIME = "2026-11-26T12:00:00+0000"
NOW = datetime.fromisoformat("2026-11-26T12:00:03+00:00").timestamp()


def lines(**fields):
    return list(describe_status("mine", StatusRecord(**{"state": "running", "time": TIME} | fields), NOW))


def test_a_run_that_trains_shows_how_far_it_is_and_what_it_takes():
    found = lines(
        stage="train", step=270, total_steps=600, eta_s=82.4, loss=0.04651, examples_per_s=45.23, last_checkpoint=240,
        gpu_memory_gib=(3.1, 15.8), gpu_load_percent=87, cost_usd=0.12,
    )  # fmt: skip
    assert found == [
        "mine: train, step 270 of 600",
        "[##############----------------] 45 %   0:01:22 left",
        "loss 0.0465, 45.2 examples/s, GPU 3.1 of 15.8 GiB, 87 % busy, 0.12 USD so far, checkpoint of step 240",
        "last sign of life 3 s ago",
    ]


def test_a_run_that_answers_shows_its_rows():
    assert lines(stage="evaluate", computing="generate", rows=30, total_rows=40)[:2] == [
        "mine: evaluate, generate: 30 of 40 rows",
        "[######################--------] 75 %",
    ]


def test_a_stage_that_counts_nothing_is_named_and_silence_is_told():
    assert lines(stage="prepare") == ["mine: prepare", "last sign of life 3 s ago"]
    assert lines(stage="prepare", time="2026-11-26T11:50:00+0000")[-1] == "last sign of life 603 s ago: it may be dead"


def test_how_a_run_ended_is_told_with_what_to_do():
    failed = {"state": "failed", "stage": "train", "error": "stopped by SIGTERM.", "exit_code": 143, "retryable": True}
    assert lines(**failed) == [
        f"mine: failed in train, {TIME}, exit code 143", "stopped by SIGTERM.", "the same command goes on from here",
    ]  # fmt: skip
    assert lines(**failed | {"retryable": False, "fix": "Set X."})[-1] == "a retry cannot help: Set X."
    done = lines(state="done", summary="better on 20 rows", adapter="output/mine/adapter")
    assert done == [f"mine: done, {TIME}", "verdict: better on 20 rows", "adapter: output/mine/adapter"]


@pytest.mark.parametrize("state", ["prepared", "trained"])
def test_a_command_that_is_a_part_of_a_run_has_ended_well_however_long_ago(state):
    assert lines(state=state, time="2026-11-26T11:00:00+0000") == [f"mine: {state}, 2026-11-26T11:00:00+0000"]


def written(name: str, **fields: object) -> None:
    """The status of a run in OUTPUT_DIR."""
    path = Path("output", name, "status.json")
    path.parent.mkdir(parents=True)
    StatusRecord(**{"state": "running"} | fields).write(path)


def test_a_sweep_is_found_by_the_name_of_its_runs_and_shows_the_trials_that_run(run_job, capsys):
    written("mine-sweep", time=TIME, stage="sweep", computing="trials", rows=1, total_rows=4)
    written("mine-sweep-00", state="trained")
    for number in (1, 2):
        written(f"mine-sweep-0{number}", stage="train", step=number, total_steps=4)
    written("mine-sweep-other", stage="train")
    assert run_job("status", RUN_NAME="mine")[0] == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith("mine")] == [
        "mine-sweep: sweep, trials: 1 of 4", "mine-sweep-01: train, step 1 of 4", "mine-sweep-02: train, step 2 of 4",
    ]  # fmt: skip
    assert len([line for line in shown if line.startswith("last sign of life")]) == 2
    assert "dead" not in str(shown)


def test_a_sweep_without_a_trial_that_runs_tells_its_own_signs_of_life_and_a_run_comes_before_a_sweep(run_job, capsys):
    written("mine-sweep", stage="sweep")
    assert run_job("status", "mine")[0] == 0
    assert capsys.readouterr().out.splitlines()[0] == "mine-sweep: sweep"
    written("mine", state="trained")
    assert run_job("status", "mine")[0] == 0
    assert capsys.readouterr().out.startswith("mine: trained, ")


@pytest.mark.parametrize("arguments", [("r",), ("output/r/",), ()])
def test_it_is_printed_for_the_run_that_is_named(finished_run, run_job, capsys, arguments):
    code, said = run_job("status", *arguments, **{} if arguments else {"RUN_NAME": "r"})
    assert code == 0, said
    assert capsys.readouterr().out.startswith("r: done, ")
    status = json.loads((finished_run[1] / "status.json").read_text())
    assert status["state"] == "done", "it was read only"


def test_a_run_that_is_not_there_is_told(run_job):
    code, said = run_job("status", "none")
    assert code == 66
    assert "output/none: no run there, or none that has begun. Name one in OUTPUT_DIR=output." in said
