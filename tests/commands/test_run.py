"""The command `run`: it does what is not done yet, and nothing twice."""

import json
import logging
import re
import shutil
import weakref
from pathlib import Path

import pytest

from job.commands import run as module
from job.commands.run import report_done
from job.pipeline import claim, train
from job.pipeline.run_folder import RunFolder
from tests.conftest import run_reload_here


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes a failure of every call of these steps."""
    for name in names:

        def fail(*_: object, name: str = name) -> None:
            raise AssertionError(f"{name} was called")

        monkeypatch.setattr(module, name, fail)


def test_a_finished_run_is_left_as_it_is(finished_run, run_job):
    variables, folder = finished_run

    def written() -> dict:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}

    before = written()
    code, said = run_job(**variables)
    assert code == 0
    assert re.search(r"verdict: .* on 8 rows: ", said)
    assert before == written()


def test_a_finished_run_is_not_taken_for_one_of_other_rows(finished_run, run_job):
    variables, folder = finished_run
    rows = Path("rows.csv")
    before, text = (folder / "status.json").read_bytes(), rows.read_text()
    rows.write_text(text + "the 41 of May,05-41\n")
    code, said = run_job(**variables)
    assert code == 78
    assert "output/r is finished, and was made from other rows than TRAIN_DATA=rows.csv holds now. Choose another RUN_NAME" in said
    assert (folder / "status.json").read_bytes() == before, "it is a finished run all the same"
    rows.unlink()
    assert run_job(**variables)[0] == 0, "rows that are gone say nothing"
    rows.write_text(text.replace("\n", "\r\n"))
    assert run_job(**variables)[0] == 0, "the same rows in other bytes"


def test_an_evaluation_that_was_lost_is_made_again_without_training(finished_run, run_job, caplog):
    variables, folder = finished_run
    before, evaluation = (
        (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns,
        (folder / "evaluation.csv").read_text(),
    )
    (folder / "evaluation.csv").unlink()
    (folder / "status.json").unlink()
    assert run_job(**variables)[0] == 0
    assert (folder / "evaluation.csv").read_text() == evaluation
    assert (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_of_a_finished_run_nothing_is_prepared_again(finished_run, run_job, monkeypatch):
    forbid(monkeypatch, "prepare_run", "train", "evaluate", "verify", "publish", "load_trained_model")
    code, said = run_job(**finished_run[0])
    assert code == 0, said
    assert "output/r is finished: nothing to do. OVERWRITE=true starts it again" in said


def test_a_run_that_ended_before_its_report_is_published_without_weights(finished_run, run_job, monkeypatch):
    variables, folder = finished_run
    (folder / "status.json").unlink()
    (folder / "report.html").unlink()
    forbid(monkeypatch, "train", "evaluate", "load_trained_model")
    code, said = run_job(**variables)
    assert code == 0, said
    assert (folder / "report.html").exists()
    assert RunFolder(folder, folder).is_done


def test_without_its_proof_an_evaluation_is_made_again_with_the_adapter_that_is_there(finished_run, run_job, monkeypatch):
    variables, folder = finished_run
    before = (folder / "evaluation.csv").read_text()
    (folder / "status.json").unlink()
    (folder / "proof.json").unlink()
    forbid(monkeypatch, "train")
    code, said = run_job(**variables)
    assert code == 0, said
    assert (folder / "evaluation.csv").read_text() == before
    assert (folder / "proof.json").exists()


@pytest.mark.parametrize("lost", ["deleted", "adapter_model.safetensors", "tokenizer.json", "manifest.json"])
def test_an_adapter_that_is_not_what_was_proven_is_made_again_and_proven(finished_run, run_job, lost):
    variables, folder = finished_run
    weights = folder / "adapter" / "adapter_model.safetensors"
    before, evaluation = weights.read_bytes(), (folder / "evaluation.csv").read_bytes()
    if lost == "deleted":
        shutil.rmtree(folder / "adapter")
    else:
        path = folder / "adapter" / lost
        path.write_bytes(bytes(path.stat().st_size))
    code, said = run_job(**variables)
    assert code == 0, said
    assert (f"output/r/adapter: {lost} is not what was written: set aside as adapter.damaged" in said) == (lost != "deleted")
    assert (folder / "adapter.damaged").exists() == (lost != "deleted"), "nothing of a person's is deleted"
    assert (weights.read_bytes(), (folder / "evaluation.csv").read_bytes()) == (before, evaluation)
    assert "loaded again by a fresh process" in said
    assert RunFolder(folder, folder).is_done


def test_an_adapter_that_is_made_again_is_evaluated_again_though_a_kill_lies_between(finished_run, run_job, monkeypatch):
    variables, folder = finished_run
    shutil.rmtree(folder / "adapter")

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", die)
        with pytest.raises(Killed):
            run_job(**variables)
    assert (folder / "adapter").exists()
    assert (folder / "evaluation.csv").exists(), "that of the adapter that is gone"
    code, said = run_job(**variables)
    assert code == 0, said
    assert "base and adapter answer 8 rows" in said


def test_of_a_damaged_adapter_nobody_answers_merges_or_evaluates(finished_run, run_job):
    variables, folder = finished_run
    (folder / "adapter" / "adapter_config.json").write_text("")
    for command in (("predict", "rows.csv"), ("merge",), ("evaluate",)):
        code, said = run_job(*command, **variables)
        assert code == 65, command
        assert said.splitlines()[-1] == (
            "output/r/adapter: adapter_config.json is not what was written. Bring it back from a copy, or enter the command `run`, "
            "which makes it again."
        )


def test_a_clearing_that_a_kill_cut_off_leaves_no_finished_run(finished_run, run_job, monkeypatch):
    variables, folder = finished_run
    deleted = []

    class Killed(BaseException):
        pass

    def cut_off(path: Path, **_: object) -> None:
        deleted.append(path.name)
        (path / "adapter_model.safetensors").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(claim.shutil, "rmtree", cut_off)
        with pytest.raises(Killed):
            run_job(**variables | {"OVERWRITE": "true"})
    assert deleted == ["adapter"]
    assert not (folder / "status.json").exists()
    code, said = run_job(**variables)
    assert code == 0, said
    assert "adapter_model.safetensors is missing: set aside" in said
    assert RunFolder(folder, folder).is_done


@pytest.mark.parametrize("raised", ["sys.exit(0)", "raise KeyboardInterrupt"])
@pytest.mark.parametrize("variable", ["PREPROCESS", "METRIC"])
def test_a_persons_function_that_would_end_the_job_is_an_error_of_the_settings(
    run_job, t5_folder, write_rows, questions, raised, variable
):
    Path("own.py").write_text(f"import sys\ndef f(*_):\n    {raised}\n")
    asked = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", variable: "own.py:f"}
    code, said = run_job(**asked)
    assert code == 78
    assert re.search(rf"{variable}=own.py:f raised (SystemExit: 0|KeyboardInterrupt) on .*row [12]\. Fix", said)
    told = json.loads(Path("output/r/status.json").read_text())
    assert (told["state"], told["exit_code"]) == ("failed", 78)


def test_overwrite_does_all_of_it_again_with_the_same_result(finished_run, run_job):
    variables, folder = finished_run
    weights, before = folder / "adapter" / "adapter_model.safetensors", (folder / "adapter" / "adapter_model.safetensors").stat()
    content = weights.read_bytes()
    assert run_job(**variables | {"OVERWRITE": "true"})[0] == 0
    assert weights.stat().st_ino != before.st_ino
    assert weights.read_bytes() == content


def test_the_model_has_left_the_memory_when_the_fresh_process_loads_it(
    t5_folder, write_rows, questions, run_job, fresh_process, monkeypatch
):
    """Two of them would need twice the memory."""
    models, alive = [], []
    load = train.load_base_model
    monkeypatch.setattr(train, "load_base_model", lambda context: _noted(load(context), models))

    def count(task: str):
        alive.extend(reference() is not None for reference in models)
        return run_reload_here(task)

    fresh_process["run"] = count
    asked = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "MAX_STEPS": 1, "MAX_NEW_TOKENS": 2}
    code, said = run_job(**asked, METRICS="exact_match", EVAL_STRATEGY="no")
    assert code == 0, said
    assert alive == [False]


def _noted(model: object, models: list) -> object:
    models.append(weakref.ref(model))
    return model


def test_what_was_made_is_named_and_curves_only_where_there_are_some(finished_context, caplog):
    caplog.set_level(logging.INFO)
    report_done(finished_context.settings, finished_context.folder)
    said = caplog.text
    assert all(path in said for path in ("output/r/adapter", "output/r/evaluation.csv", "output/r/report.html", "logs/r"))
    caplog.clear()
    report_done(finished_context.settings.model_copy(update={"report_to": ("none",)}), finished_context.folder)
    assert "curves" not in caplog.text
