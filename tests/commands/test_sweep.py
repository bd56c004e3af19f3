"""The command `sweep`: ordinary runs that share base and rows, the best of them judged by rows that chose none."""

import json
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import optuna
import pytest

import entrypoint
from job.commands import sweep as module
from job.config.settings import Settings
from job.errors import Diverged
from job.evaluation.evaluate import read_csv
from job.pipeline import prepare
from job.pipeline.records import StatusRecord
from job.pipeline.sweep_study import TAKEN, finish_trial, next_trial
from job.system.signals import stop_signals
from job.training import loop
from tests.conftest import environment_with, run_reload_here
from tests.faults.conftest import THOROUGH

pytestmark = pytest.mark.slow

FEW_STEPS = {
    "MAX_STEPS": 4, "LOGGING_STEPS": 1, "EVAL_STRATEGY": "steps", "EVAL_STEPS": 2, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2,
    "RUN_NAME": "r", "MAX_NEW_TOKENS": 4, "METRICS": "exact_match,loss", "PREPROCESSING_NUM_WORKERS": 1, "LORA_DROPOUT": 0.1,
}  # fmt: skip
SWEPT = FEW_STEPS | {"SWEEP": "LEARNING_RATE=1e-4..1e-1 LORA_R=4,8", "SWEEP_TRIALS": 3}
OUTPUT = Path("output")


@pytest.fixture
def variables(t5_folder, write_rows, questions) -> dict:
    return {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | SWEPT


@pytest.fixture(scope="module")
def pristine_sweep(tmp_path_factory, run_once) -> tuple[dict, Path]:
    """A sweep of three trials that nobody touched: its variables and the folder that it was started in."""
    return run_once(SWEPT, 0, command="sweep")


def trials(output: Path) -> list[tuple]:
    """Values and outcome of each trial of the study in an output folder."""
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{output / 'r-sweep' / 'study.db'}")
    return [(one.params, one.state, one.value, one.intermediate_values) for one in study.trials]


def counting(monkeypatch: pytest.MonkeyPatch, place: object, name: str) -> list:
    """The calls of a function, which does what it does."""
    calls, usual = [], getattr(place, name)

    def count(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        return usual(*arguments, **named)

    monkeypatch.setattr(place, name, count)
    return calls


def test_it_leaves_ordinary_runs_the_best_of_which_is_done(pristine_sweep):
    output = pristine_sweep[1] / "output"
    assert sorted(path.name for path in output.iterdir()) == ["r-sweep", "r-sweep-00", "r-sweep-01", "r-sweep-02"]
    losses = {}
    for number in range(3):
        history = json.loads((output / f"r-sweep-0{number}" / "history.json").read_text())
        losses[f"r-sweep-0{number}"] = min(entry["eval_loss"] for entry in history if "eval_loss" in entry)
    states = {name: StatusRecord.read(output / name / "status.json").state for name in losses}
    best = min(losses, key=losses.get)
    assert states == {name: "done" if name == best else "trained" for name in losses}
    assert [value for *_, value, _ in trials(output)] == list(losses.values())
    assert StatusRecord.read(output / "r-sweep" / "status.json").adapter.endswith(f"{best}/adapter")
    assert best in (output / "r-sweep" / "sweep.html").read_text()


def test_a_trial_trains_what_a_run_with_its_values_alone_would_have(pristine_sweep, run_job, tmp_path):
    variables, folder = pristine_sweep
    shutil.copy(folder / "rows.csv", tmp_path)
    last = folder / "output" / "r-sweep-02"
    recorded = json.loads((last / "settings.json").read_text())["settings"]
    own = {"LEARNING_RATE": recorded["learning_rate"], "LORA_R": recorded["lora_r"], "TEST_FRACTION": 0.5, "RUN_NAME": "alone"}
    code, said = run_job("train", **{name: value for name, value in variables.items() if "SWEEP" not in name} | own)
    assert code == 0, said
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (OUTPUT / "alone" / "adapter" / name).read_bytes() == (last / "adapter" / name).read_bytes()


def test_base_and_rows_are_read_once_and_no_trial_sees_the_rows_of_the_verdict(variables, run_job, monkeypatch, tokenizer):
    loaded, prepared = counting(monkeypatch, prepare, "load_base"), counting(monkeypatch, prepare, "prepare_data")
    measured = counting(monkeypatch, loop, "held_out_loss")
    trained = counting(monkeypatch, loop.Training, "__init__")
    assert run_job("sweep", **variables | {"SWEEP_TRIALS": 2})[0] == 0
    best = next(path.parent for path in OUTPUT.glob("*/evaluation.csv"))
    judged = {tuple(tokenizer(row["input"]).input_ids) for row in read_csv(best / "evaluation.csv")}
    chose = {tuple(ids) for _, rows, *_ in measured for ids in rows["input_ids"]}
    learned = {tuple(ids) for _, _, data, *_ in trained for ids in data[0]["input_ids"]}
    assert (len(judged), len(chose), len(learned)) == (4, 4, 32)
    assert not judged & chose
    assert not judged & learned
    assert (len(loaded), len(prepared)) == (1, 1)
    assert (OUTPUT / "r-sweep-00" / "data" / "summary.json").samefile(OUTPUT / "r-sweep-01" / "data" / "summary.json")


def test_overwrite_trains_each_trial_once_and_the_winner_is_not_trained_again(variables, run_job, monkeypatch):
    trained = counting(monkeypatch, loop.Training, "__init__")
    for overwrite in ("false", "true"):
        code, said = run_job("sweep", **variables | {"SWEEP_TRIALS": 1, "OVERWRITE": overwrite})
        assert code == 0, said
    assert len(trained) == 2, "one a sweep"


def test_the_shared_base_has_left_the_memory_when_the_fresh_process_loads_it(variables, run_job, fresh_process, monkeypatch):
    """Two of them would need twice the memory."""
    weights, alive, load = [], [], prepare.load_base

    def noted(*given: object) -> object:
        model = load(*given)
        weights.extend(weakref.ref(one) for one in [model, *model.parameters()])
        return model

    def count(task: str) -> object:
        alive.append(sum(reference() is not None for reference in weights))
        return run_reload_here(task)

    monkeypatch.setattr(prepare, "load_base", noted)
    fresh_process["run"] = count
    code, said = run_job("sweep", **variables | {"SWEEP_TRIALS": 1})
    assert code == 0, said
    assert len(weights) > 10
    assert alive == [0]


@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_sweep_that_was_stopped_in_the_middle_of_a_trial_ends_as_one_that_was_not(
    pristine_sweep, run_job, monkeypatch, tmp_path, step
):
    variables, folder = pristine_sweep
    shutil.copy(folder / "rows.csv", tmp_path)
    steps = iter(range(1, 99))
    usual = loop.Training.step

    def count(self: loop.Training) -> object:
        if next(steps) == step:
            stop_signals.received = "SIGTERM"
        return usual(self)

    monkeypatch.setattr(stop_signals, "received", None)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "step", count)
        code, _ = run_job("sweep", **variables)
    assert code == 143
    assert StatusRecord.read(OUTPUT / "r-sweep" / "status.json").retryable
    monkeypatch.setattr(stop_signals, "received", None)
    code, said = run_job("sweep", **variables)
    assert code == 0, said
    assert "resuming from" in said
    assert trials(OUTPUT) == trials(folder / "output")
    for number in range(3):
        adapter = Path(f"r-sweep-0{number}", "adapter", "adapter_model.safetensors")
        assert (OUTPUT / adapter).read_bytes() == (folder / "output" / adapter).read_bytes()


def test_a_finished_sweep_trains_nothing_again_and_goes_on_where_more_trials_are_asked_for(
    pristine_sweep, run_job, monkeypatch, tmp_path
):
    variables, folder = pristine_sweep
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    trained = counting(monkeypatch, module, "train")
    assert run_job("sweep", **variables)[0] == 0
    assert trained == []
    assert run_job("sweep", **variables | {"SWEEP_TRIALS": 4})[0] == 0
    assert [arguments[0].run_name for arguments in trained] == ["r-sweep-03"]
    assert trials(OUTPUT)[:3] == trials(folder / "output")


def study_of(settings: Settings, most: int) -> list[str]:
    """The ranks that trials of a sweep have begun with, or wait for, once `most` of them, or all that it wants, have ended."""
    job = module.Sweep(settings)
    job.folder.path.mkdir(parents=True, exist_ok=True)
    while found := next_trial(job.study, job.axes, job.session, min(most, job._most()), settings.seed):
        finish_trial(job.study, found[0], 0.5)
    return [one.params.get("lora_r") or one.system_attrs["fixed_params"]["lora_r"] for one in job.study.trials]


def test_combinations_that_a_larger_number_of_trials_makes_room_for_are_each_tried(make_settings):
    ranks = {"2", "4", "8", "16"}
    asked = {"sweep": "LORA_R=2,4,8,16", "eval_strategy": "epoch"}
    few = study_of(make_settings(**asked, sweep_trials=3), most=3)
    assert len(few) == 3
    all_of_them = study_of(make_settings(**asked, sweep_trials=4), most=9)
    assert all_of_them[:3] == few
    assert set(all_of_them) == ranks
    assert len(all_of_them) == 3 + len(ranks - set(few)), "none is tried again"
    assert study_of(make_settings(**asked, sweep_trials=9), most=9) == all_of_them


def test_a_sweep_of_all_combinations_that_was_killed_goes_on_with_those_that_wait(make_settings):
    settings = make_settings(sweep="LORA_R=2,4,8,16", eval_strategy="epoch", sweep_trials=4)
    for most in (1, 9):
        assert study_of(settings, most) == ["2", "4", "8", "16"]


def test_a_study_of_other_settings_or_other_rows_is_refused(pristine_sweep, run_job, tmp_path):
    variables, folder = pristine_sweep
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    code, said = run_job("sweep", **variables | {"LORA_ALPHA": 64})
    assert code == 78
    assert "holds a sweep with other settings: LORA_ALPHA was 32 and is 64" in said
    with Path("rows.csv").open("a") as rows:
        rows.write("one more,06-01\n")
    code, said = run_job("sweep", **variables | {"SWEEP_TRIALS": 4})
    assert code == 78
    assert "base model or rows changed since this sweep was begun" in said
    assert run_job("sweep", **variables | {"OVERWRITE": "true", "SWEEP_TRIALS": 1})[0] == 0


def test_a_trial_that_is_given_up_ends_early_and_keeps_its_adapter(variables, run_job, monkeypatch):
    monkeypatch.setattr(module, "is_hopeless", lambda trial, values: trial.number == 1 and len(values) == 1)
    code, said = run_job("sweep", **variables)
    assert code == 0, said
    assert "r-sweep-01: given up at step 2 of 4, worse than the median" in said
    steps = [json.loads((OUTPUT / f"r-sweep-0{number}" / "adapter" / "job.json").read_text())["steps"] for number in range(3)]
    assert steps == [4, 2, 4]
    assert [state.name for _, state, *_ in trials(OUTPUT)] == ["COMPLETE", "PRUNED", "COMPLETE"]


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> None:
    """Lets the trials of some names diverge."""
    usual = module.train

    def train(settings: object, shared: object) -> None:
        if fails(settings.run_name):
            raise Diverged("step 3: loss is nan. Lower it.")
        usual(settings, shared)

    monkeypatch.setattr(module, "train", train)


def test_the_status_of_a_sweep_is_true_from_its_start_on_also_after_a_kill(variables, run_job, monkeypatch):
    status, seen, prepare_once = OUTPUT / "r-sweep" / "status.json", [], module.prepare_once

    def look(*_: object) -> None:
        found = StatusRecord.read(status)
        seen.append((found.state, found.stage, found.rows, found.total_rows))

    monkeypatch.setattr(module, "prepare_once", lambda *given: (look(), prepare_once(*given))[1])
    failing(monkeypatch, lambda name: look() or True)
    status.parent.mkdir(parents=True)
    StatusRecord("running", stage="sweep", rows=7, total_rows=8).write(status)  # what a killed one left
    run_job("sweep", **variables | {"SWEEP_TRIALS": 2})
    assert seen == [("running", "sweep", None, None), ("running", "sweep", 0, 2), ("running", "sweep", 1, 2)]


def test_a_trial_that_diverges_is_told_and_the_others_go_on(variables, run_job, monkeypatch):
    failing(monkeypatch, lambda name: name.endswith("-00"))
    code, said = run_job("sweep", **variables | {"SWEEP_TRIALS": 2})
    assert code == 0, said
    assert "failed: Diverged: step 3: loss is nan. Lower it." in (OUTPUT / "r-sweep" / "sweep.html").read_text()


def test_where_every_trial_fails_the_sweep_fails_like_the_first(variables, run_job, monkeypatch):
    failing(monkeypatch, lambda name: True)
    code, said = run_job("sweep", **variables | {"SWEEP_TRIALS": 2})
    assert code == Diverged.exit_code
    assert "sweep: none of 2 trials came to its end. r-sweep-00: Diverged: step 3: loss is nan. Lower it." in said


def proposing(monkeypatch: pytest.MonkeyPatch, name: str, *wanted: object) -> None:
    """Lets the study's sampler propose these values of a range, a trial each."""
    values, usual = iter(wanted), optuna.samplers.TPESampler.sample_independent

    def propose(self: object, study: object, trial: object, parameter: str, distribution: object) -> object:
        return next(values) if parameter == name else usual(self, study, trial, parameter, distribution)

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_independent", propose)


REFUSED = [
    (
        "effective_batch_size", 13, {"SWEEP": "EFFECTIVE_BATCH_SIZE=8..64", "PER_DEVICE_TRAIN_BATCH_SIZE": 8},
        "SettingsError: SWEEP, EFFECTIVE_BATCH_SIZE=13: EFFECTIVE_BATCH_SIZE=13 is no multiple of PER_DEVICE_TRAIN_BATCH_SIZE=8",
    ),
    (
        "lora_r", 5, {"SWEEP": "LORA_R=4..16", "INIT_LORA_WEIGHTS": "orthogonal"},
        "SettingsError: LoRA: Orthogonal initialization requires the LoRA rank to be even, got 5",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "changes", "message"), REFUSED, ids=["number", "combination"])
def test_a_trial_whose_settings_are_refused_is_told_and_the_others_go_on(
    variables, run_job, monkeypatch, name, value, changes, message
):
    wanted = variables | {"EFFECTIVE_BATCH_SIZE": 128, "LORA_R": 32, "MAX_STEPS": 2, "SWEEP_TRIALS": 2} | changes
    proposing(monkeypatch, name, value, 16, 8)
    code, said = run_job("sweep", **wanted)
    assert code == 0, said
    assert f"failed: {message}" in (OUTPUT / "r-sweep" / "sweep.html").read_text()
    assert [(params[name], state.name) for params, state, *_ in trials(OUTPUT)] == [(value, "PRUNED"), (16, "COMPLETE")]
    code, said = run_job("sweep", **wanted | {"SWEEP_TRIALS": 3})
    assert code == 0, said
    assert [params[name] for params, *_ in trials(OUTPUT)] == [value, 16, 8]


def test_a_trial_that_is_refused_where_all_would_be_ends_the_sweep_at_once(variables, run_job):
    refused = {"INIT_LORA_WEIGHTS": "orthogonal", "LORA_R": 5, "SWEEP": "LEARNING_RATE=1e-4,1e-3", "SWEEP_TRIALS": 2}
    code, said = run_job("sweep", **variables | refused)
    assert code == 78
    assert "LoRA: Orthogonal initialization requires the LoRA rank to be even, got 5" in said
    assert [state.name for _, state, *_ in trials(OUTPUT)] == ["RUNNING", "WAITING"], "it is tried again once that is changed"


def test_where_the_settings_of_every_trial_are_refused_the_sweep_fails_like_the_first(variables, run_job, monkeypatch):
    proposing(monkeypatch, "effective_batch_size", 13, 15)
    refused = {"SWEEP": "EFFECTIVE_BATCH_SIZE=8..64", "PER_DEVICE_TRAIN_BATCH_SIZE": 8, "EFFECTIVE_BATCH_SIZE": 128}
    for _ in range(2):
        code, said = run_job("sweep", **variables | refused | {"SWEEP_TRIALS": 2})
        assert code == 78
        assert "none of 2 trials came to its end. r-sweep-00: SettingsError: SWEEP, EFFECTIVE_BATCH_SIZE=13" in said


def test_the_budget_ends_a_sweep_before_a_trial_that_would_go_beyond_it(variables, run_job, monkeypatch):
    monkeypatch.setattr(module, "longest_trial_s", lambda *_: 3000.0 if _[2] else 0.0)
    code, said = run_job("sweep", **variables | {"SWEEP_HOURS": 0.5})
    assert code == 0, said
    assert "the budget ends after 1 trials of 3" in said
    assert len(trials(OUTPUT)) == 1


@pytest.mark.parametrize(("processes", "most"), [(1, 1), (2, 9)])
def test_what_another_process_is_at_counts_in_the_budget_of_the_machine(make_settings, processes, most):
    settings = make_settings(
        sweep="LORA_R=4..16", sweep_trials=9, sweep_hours=0.5, eval_strategy="epoch", nproc_per_node=str(processes)
    )
    job = module.Sweep(settings)
    job.folder.path.mkdir(parents=True)
    trial, _ = next_trial(job.study, job.axes, job.session, most=9, seed=1)
    assert job._most() == 9
    trial.set_user_attr(TAKEN, time.time() - 2000)
    assert job._most() == most


def test_a_learning_curve_takes_every_share_once_gives_none_up_and_says_what_twice_the_rows_bring(variables, run_job, monkeypatch):
    monkeypatch.setattr(module, "is_hopeless", lambda trial, values: True)
    code, said = run_job("sweep", **variables | {"SWEEP": "TRAIN_FRACTION=0.25,0.5,1", "SWEEP_TRIALS": 5})
    assert code == 0, said
    assert [params["train_fraction"] for params, *_ in trials(OUTPUT)] == ["0.25", "0.5", "1"]
    assert "32 -> 64 training rows: the loss of held-out rows" in said
    assert "32 -&gt; 64 training rows" in (OUTPUT / "r-sweep" / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SWEEP": ""}, "sweep: SWEEP is not set. Say what to try"),
        ({"EVAL_STRATEGY": "no", "EVAL_STEPS": ""}, "sweep: EVAL_STRATEGY=no measures nothing to choose by"),
        ({"NNODES": 2, "MASTER_ADDR": "127.0.0.1"}, "sweep: a trial is one process. Start it without torchrun and NNODES"),
        ({"MAX_HOURS": 1}, "sweep: MAX_HOURS is the end of one run. Set SWEEP_HOURS"),
        ({"TEST_FRACTION": 0.01, "EVAL_FRACTION": 0.02}, "TEST_FRACTION=0.01: of 1 held-out rows none is left"),
        ({"SWEEP": "TARGET_MODULES=q+v,q+xx"}, 'TARGET_MODULES: no module of the model is named "xx"; there are '),
        ({"SWEEP_USD": 1}, "SWEEP_USD: what this machine costs is not known. Set GPU_HOURLY_COST"),
    ],
)
def test_what_no_sweep_can_do_is_answered_in_one_line(variables, run_job, changes, message):
    code, said = run_job("sweep", **variables | changes)
    assert code in (65, 78)
    assert message in said
    assert not [*OUTPUT.glob("*/adapter")], "it was asked after a trial"


def start(folder: Path, variables: dict) -> subprocess.Popen:
    """`sweep` in a process of its own, as a person starts it."""
    command = [sys.executable, str(Path(entrypoint.__file__)), "sweep"]
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment_with(variables), stdout=log, stderr=log)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, pristine_sweep) -> Path:
    """The output of a sweep in a process of its own, whose threads and so whose last digits are its own too."""
    variables, folder = pristine_sweep
    place = tmp_path_factory.mktemp("untouched")
    shutil.copy(folder / "rows.csv", place)
    assert start(place, variables).wait(timeout=300) == 0, (place / "log.txt").read_text()
    return place / "output"


def test_two_processes_have_a_trial_each_and_the_first_one_evaluates_the_best(pristine_sweep, tmp_path):
    variables, folder = pristine_sweep
    shutil.copy(folder / "rows.csv", tmp_path)
    wanted = variables | {"NPROC_PER_NODE": 2, "SWEEP": "LORA_R=2,4,8,16", "SWEEP_TRIALS": 4}
    assert start(tmp_path, wanted).wait(timeout=300) == 0, (tmp_path / "log.txt").read_text()
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/output/r-sweep/study.db")
    assert [one.params["lora_r"] for one in study.trials] == ["2", "4", "8", "16"]
    assert {one.state.name for one in study.trials} == {"COMPLETE"}
    spans = sorted((one.datetime_start, one.datetime_complete) for one in study.trials)
    assert any(begun < ended for (_, ended), (begun, _) in pairwise(spans)), "no two of them ran at the same time"
    assert len([*tmp_path.glob("output/*/evaluation.csv")]) == 1


@pytest.mark.parametrize("trial", [0, 2] if THOROUGH else [2])
def test_a_sweep_that_was_killed_in_the_middle_of_a_trial_ends_as_one_that_was_not(pristine_sweep, untouched, tmp_path, trial):
    variables, folder = pristine_sweep
    shutil.copy(folder / "rows.csv", tmp_path)
    process, checkpoint = start(tmp_path, variables), tmp_path / f"output/r-sweep-0{trial}/checkpoints/checkpoint-2"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / f"output/r-sweep-0{trial}/adapter").exists(), "it was too late"
    assert start(tmp_path, variables).wait(timeout=300) == 0, (tmp_path / "log.txt").read_text()
    assert trials(tmp_path / "output") == trials(untouched)
    for number in range(3):
        adapter = Path(f"r-sweep-0{number}", "adapter", "adapter_model.safetensors")
        assert (tmp_path / "output" / adapter).read_bytes() == (untouched / adapter).read_bytes()
