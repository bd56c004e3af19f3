"""The command `check`: one line a file that is wrong, 65; nothing wrong, 0; and nothing is changed."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from job.publish.verification import subprocess
from job.system.seal import seal


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_a_finished_run_is_sound_and_stays_untouched(finished_run, run_job, capsys):
    variables, folder = finished_run
    before = files(folder)
    code, said = run_job("check", "output/r", **variables)
    assert code == 0, said
    assert "against what the run recorded: 8 of 8 answers the same" in said
    assert said.splitlines()[-1] == "output/r is sound"
    assert capsys.readouterr().out == ""
    assert files(folder) == before


def test_each_file_that_is_wrong_has_a_line_of_its_own(finished_run, run_job, capsys):
    variables, folder = finished_run
    (folder / "report.html").unlink()
    (folder / "adapter" / "tokenizer.json").write_text("{}")
    next((folder / "data" / "eval").glob("*.arrow")).write_bytes(b"")
    code, said = run_job("check", **variables)
    assert code == 65
    assert capsys.readouterr().out.splitlines() == [
        "output/r/report.html: is missing",
        "output/r/adapter/tokenizer.json: is not what was written",
        "output/r/data: eval/data-00000-of-00001.arrow is not what was written",
    ]
    assert "output/r: 3 files are wrong. Bring the folder back from a copy, or enter the command `run`" in said


def test_an_adapter_that_does_not_answer_as_recorded_is_wrong_however_whole(finished_run, run_job, fresh_process, capsys):
    variables, _ = finished_run
    usual = fresh_process["run"]

    def shifted(task: str) -> subprocess.CompletedProcess:
        ended = usual(task)
        found = json.loads(ended.stdout)
        ended.stdout = json.dumps(found | {"losses": [loss + 1 for loss in found["losses"]]})
        return ended

    fresh_process["run"] = shifted
    assert run_job("check", **variables)[0] == 65
    assert capsys.readouterr().out.startswith(
        "output/r/adapter: does not answer as the run recorded: 8 of 8 answers the same, losses"
    )


def test_an_adapter_that_no_library_can_load_is_wrong(finished_run, run_job, fresh_process, capsys):
    variables, _ = finished_run
    fresh_process["run"] = lambda task: subprocess.CompletedProcess([], 1, "", "ValueError: no such rank\n")
    assert run_job("check", **variables)[0] == 65
    assert "cannot use it: ValueError: no such rank" in capsys.readouterr().out


def test_without_memory_for_the_answers_nothing_is_called_sound(finished_run, run_job, fresh_process):
    variables, _ = finished_run
    fresh_process["run"] = lambda task: subprocess.CompletedProcess([], 1, "", "MemoryError\n")
    code, said = run_job("check", **variables)
    assert code == 72
    assert "its answers were not compared, no room in memory" in said


def test_an_unfinished_run_is_sound_as_far_as_it_is(stopped_run, run_job, capsys):
    variables, folder = stopped_run
    code, said = run_job("check", **variables)
    assert code == 0, said
    assert "is sound, as far as it is: no run was finished there" in said
    (folder / "checkpoints" / "checkpoint-2" / "progress.json").write_text("{}")
    assert run_job("check", **variables)[0] == 65
    assert capsys.readouterr().out == "output/r/checkpoints/checkpoint-2/progress.json: is not what was written\n"


def test_a_run_that_is_not_there_is_66_and_no_folder_is_made(run_job):
    code, said = run_job("check", "none")
    assert code == 66
    assert "output/none: no run there" in said
    assert not Path("output").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written_is_checked_all_the_same(finished_run, run_job):
    variables, folder = finished_run
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert run_job("check", **variables)[0] == 0
    folder.chmod(stat.S_IRWXU)


def test_a_merged_model_is_checked_too(finished_run, run_job, capsys):
    variables, folder = finished_run
    assert run_job("merge", **variables)[0] == 0
    assert run_job("check", **variables)[0] == 0
    (folder / "merged" / "config.json").unlink()
    assert run_job("check", **variables)[0] == 65
    assert capsys.readouterr().out == "output/r/merged/config.json: is missing\n"
    shutil.rmtree(folder / "merged")
    (folder / "adapter" / "notes.txt").touch()
    seal(folder / "adapter")
    assert run_job("check", **variables)[0] == 0
