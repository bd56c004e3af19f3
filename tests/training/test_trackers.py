"""Trackers of accelerate's: what they are told, in a whole run and alone."""

import pytest
from accelerate import tracking

from job.pipeline import prepare, train
from job.training.trackers import Tracker
from tests.conftest import FINISHED, STOPPED, do_after_step

TOLD: list[tuple] = []


class Recorder(tracking.GeneralTracker):
    """Stands for a service: notes what it is told."""

    name, requires_logging_directory = "wandb", False

    def __init__(self, run_name: str) -> None:
        super().__init__()
        TOLD.append(("made", run_name))

    @property
    def tracker(self) -> list:
        return TOLD

    def start(self) -> None:
        TOLD.append(("start",))

    def store_init_configuration(self, values: dict) -> None:
        TOLD.append(("settings", values))

    def log(self, values: dict, step: int | None = None, **_: object) -> None:
        TOLD.append(("log", step, values))

    def finish(self) -> None:
        TOLD.append(("finish",))


class WithFolder(Recorder):
    """One that keeps something on the disk."""

    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__(run_name)
        TOLD.append(("folder", logging_dir))


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    TOLD.clear()
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "dvclive", WithFolder)
    available = [tracking.LoggerType.WANDB, tracking.LoggerType.DVCLIVE]
    monkeypatch.setattr("job.config.libraries.get_available_trackers", lambda: available)


def test_a_tracker_is_told_name_settings_points_and_the_end(tmp_path):
    tracker = Tracker("wandb", "mine", {"LORA_R": 4, "LEARNING_RATE": 0.5, "USE_DORA": True, "MAX_STEPS": None}, tmp_path)
    assert TOLD == [], "nothing is opened before training begins"
    tracker.start(0, 10)
    tracker.log({"loss": 2.0}, 3)
    tracker.close()
    assert TOLD == [
        ("made", "mine"), ("start",),
        ("settings", {"LORA_R": 4, "LEARNING_RATE": 0.5, "USE_DORA": True, "MAX_STEPS": "None"}),
        ("log", 3, {"loss": 2.0}), ("finish",),
    ]  # fmt: skip


def test_one_that_keeps_files_gets_the_folder_of_the_logs(tmp_path):
    Tracker("dvclive", "mine", {}, tmp_path).start(0, 10)
    assert TOLD[:2] == [("made", "mine"), ("folder", str(tmp_path))]


def test_a_run_tells_its_trackers_beside_tensorboard_what_the_curves_show(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | FINISHED
    variables |= {"EVAL_STRATEGY": "steps", "EVAL_STEPS": 2, "REPORT_TO": "tensorboard,wandb,dvclive", "HF_TOKEN": "hf_topsecret"}
    code, said = run_job("train", **variables)
    assert code == 0, said
    for name in ("wandb", "dvclive"):
        assert name in tracking.LOGGER_TYPE_TO_CLASS
    assert [told for told in TOLD if told[0] == "made"] == [("made", "r")] * 2
    assert ("folder", "logs/r") in TOLD
    logged = [told[1:] for told in TOLD if told[0] == "log"]
    assert [(step, "eval_loss" in values) for step, values in logged[::2]] == [
        (1, False), (2, False), (2, True), (3, False), (4, False), (4, True),
    ]  # fmt: skip
    assert {"loss", "grad_norm", "learning_rate", "examples_per_second"} <= logged[0][1].keys()
    settings = next(told[1] for told in TOLD if told[0] == "settings")
    assert (settings["MAX_STEPS"], settings["MODEL_ID"]) == (4, str(t5_folder))
    assert "topsecret" not in str(TOLD)
    assert TOLD[-2:] == [("finish",)] * 2


def test_a_stopped_run_closes_its_trackers_and_the_resumed_one_goes_on(run_job, t5_folder, write_rows, questions, monkeypatch):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "REPORT_TO": "wandb"} | STOPPED
    with monkeypatch.context() as patch:
        patch.setattr(train.stop_signals, "received", None)
        do_after_step(patch, 3, lambda **_: setattr(train.stop_signals, "received", "SIGTERM"))
        assert run_job("train", **variables)[0] == 143
    assert TOLD[-1] == ("finish",)
    assert run_job("train", **variables)[0] == 0
    assert [told[1] for told in TOLD if told[0] == "log"] == list(range(1, 9))


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_read(run_job, monkeypatch):
    monkeypatch.setattr("job.config.libraries.get_available_trackers", lambda: [])
    monkeypatch.setattr(prepare, "detect", lambda *_: pytest.fail("it went on"))
    code, said = run_job(REPORT_TO="wandb")
    assert code == 78
    assert "REPORT_TO: wandb is not installed here." in said
