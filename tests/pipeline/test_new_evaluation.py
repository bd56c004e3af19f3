"""A new evaluation and its settings appear together or not at all, whenever the process that writes them dies."""

import json
import os
from pathlib import Path

import pytest

from job.pipeline import new_evaluation as module
from job.pipeline.new_evaluation import finish_replacing, replaced_evaluation
from job.pipeline.run_folder import RunFolder

pytestmark = pytest.mark.slow

NAMES = ("evaluation.csv", "proof.json", "settings.json", "verdict.json")


class Killed(BaseException):
    """What a kill is, for one process."""


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    for name in NAMES:
        (tmp_path / name).write_text("last")
    return RunFolder(tmp_path, tmp_path)


def found(folder: RunFolder) -> list[str]:
    return [(folder.path / name).read_text() for name in NAMES]


def replace_all(folder: RunFolder, killed: bool = False) -> None:
    with replaced_evaluation(folder) as new:
        for path in (new.evaluation, new.proof, new.settings, new.verdict):
            path.write_text("new")
            if killed:
                raise Killed


def test_all_files_are_replaced_and_nothing_is_left_over(folder):
    replace_all(folder)
    assert found(folder) == ["new"] * 4
    assert {path.name for path in folder.path.iterdir()} == set(NAMES)


def test_what_fails_while_it_is_written_leaves_the_last_one_and_the_next_try_is_a_whole_one(folder):
    with pytest.raises(Killed):
        replace_all(folder, killed=True)
    finish_replacing(folder)
    assert found(folder) == ["last"] * 4
    replace_all(folder)
    assert found(folder) == ["new"] * 4


@pytest.mark.parametrize("moves", range(6))
def test_after_a_kill_at_any_move_all_are_new_or_all_are_old(folder, monkeypatch, moves):
    """The first move is that of the folder; four files follow."""
    left, replace = [moves], os.replace

    def move(*paths: Path) -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", move)
        if moves < 5:
            with pytest.raises(Killed):
                replace_all(folder)
        else:
            replace_all(folder)
    finish_replacing(folder)
    assert found(folder) == (["last"] if moves == 0 else ["new"]) * 4
    assert not folder.new_evaluation.exists()


def test_where_nothing_was_evaluated_there_is_nothing_to_finish(tmp_path):
    finish_replacing(RunFolder(tmp_path, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed_in", ["write_csv", "finish_replacing", "verify", "publish"])
def test_a_run_whose_evaluate_was_killed_finishes_with_its_own_settings(finished_run, run_job, monkeypatch, killed_in):
    from job.commands import evaluate as command
    from job.pipeline import evaluate as step

    variables, path = finished_run
    adapter, before = (path / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns, (path / "evaluation.csv").read_bytes()
    place = {"write_csv": step, "finish_replacing": module, "verify": command, "publish": command}[killed_in]

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, killed_in, die)
        with pytest.raises(Killed):
            run_job("evaluate", **variables | {"METRICS": "chrf"})
    is_new = killed_in in ("verify", "publish")
    columns = (path / "evaluation.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    recorded = json.loads((path / "settings.json").read_text())["settings"]["metrics"]
    assert ("adapter_exact_match" not in columns, recorded == ["chrf"]) == (is_new, is_new)
    code, said = run_job(**variables)
    assert code == 0, said
    assert (path / "evaluation.csv").read_bytes() == before
    assert (path / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == adapter
    assert RunFolder(path, path).is_done
