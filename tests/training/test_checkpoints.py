"""The newest checkpoint that is whole counts. tests/faults/test_promises.py damages those of a real run."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from job.errors import DiskFull, SettingsError
from job.system.seal import MANIFEST, is_whole, seal
from job.training.checkpoints import (
    BEST,
    KEPT,
    Progress,
    checkpoints_of,
    load_trained,
    new_folder,
    newest_whole,
    read_checkpoint,
    rotate,
    step_of,
    write_checkpoint,
)
from tests.training.material import adapter_of, begun, make_model


def sealed(folder: Path, step: int, kind: str = "checkpoint", content: bytes = b"weights") -> Path:
    """A checkpoint of two files, one of them in a folder within."""
    made = folder / f"{kind}-{step}"
    (made / "state").mkdir(parents=True)
    (made / "weights.bin").write_bytes(content)
    (made / "state" / "progress.json").write_text(f'{{"step": {step}}}')
    seal(made)
    return made


def test_the_newest_is_that_of_the_highest_step_not_of_the_last_name(tmp_path):
    for step in (9, 10, 2):
        sealed(tmp_path, step)
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-10"


def test_torn_ones_are_set_aside_by_name_and_the_newest_whole_one_is_taken(tmp_path, caplog):
    for step in (2, 4, 6):
        sealed(tmp_path, step)
    for step in (4, 6):
        (tmp_path / f"checkpoint-{step}" / "weights.bin").write_bytes(b"weightz")
    (tmp_path / "torn-checkpoint-6").mkdir()
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-2"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "torn-checkpoint-4", "torn-checkpoint-6"}
    assert f"{tmp_path / 'checkpoint-6'} is incomplete, as after a kill while it was written: set aside as torn-checkpoint-6" in (
        caplog.text
    )


def test_where_there_is_none_there_is_none(tmp_path):
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "nowhere") is None


def test_kinds_are_told_apart_and_other_names_are_none(tmp_path):
    sealed(tmp_path, 4)
    sealed(tmp_path, 8, BEST)
    (tmp_path / "checkpoint-12").touch()
    for name in ("checkpoint-x", "checkpoint-5.partial", "torn-checkpoint-7", "my-checkpoint-9"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints_of(tmp_path, "checkpoint")] == ["checkpoint-4"]
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-4"
    assert [path.name for path in checkpoints_of(tmp_path, BEST)] == ["best-8"]
    assert (step_of(tmp_path / "checkpoint-4"), step_of(Path("best-1200"))) == (4, 1200)


def test_the_newest_two_are_kept_and_what_was_set_aside_goes(tmp_path):
    assert KEPT == 2
    for step in (8, 9, 10, 11):
        sealed(tmp_path, step)
    sealed(tmp_path, 3, BEST)
    (tmp_path / "torn-checkpoint-7").mkdir()
    rotate(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-11", "best-3"}


def test_a_checkpoint_has_four_files_and_comes_back_as_it_was_written(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path)
    for _ in range(3):
        training.step()
        training.log_if_due()
    folder, progress = tmp_path / "checkpoint-3", training.progress
    progress.loss_since_log, progress.steps_since_log = 1 / 3, 2
    write_checkpoint(folder, training.model, training.optimizer, progress)
    assert {path.name for path in folder.iterdir()} == {
        "adapter.safetensors", "optimizer.safetensors", "progress.json", "manifest.json",
    }  # fmt: skip
    assert is_whole(folder)
    found = read_checkpoint(folder)
    assert found.progress == progress
    assert (found.progress.step, len(found.progress.history), found.progress.loss_since_log) == (3, 3, 1 / 3)
    model = make_model(t5_folder)
    assert not torch.equal(adapter_of(model), adapter_of(training.model))
    load_trained(model, found.adapter)
    assert torch.equal(adapter_of(model), adapter_of(training.model))
    moments = [state["exp_avg"] for state in training.optimizer.state.values()]
    assert all(torch.equal(found.optimizer[f"{place}.exp_avg"], moment) for place, moment in enumerate(moments))


def test_the_frozen_weights_are_not_in_a_checkpoint(t5_folder, tmp_path):
    training = begun(t5_folder, tmp_path)
    training.save()
    with safe_open(tmp_path / "checkpoint-0" / "adapter.safetensors", "pt") as weights:
        assert len(list(weights.keys())) == len(training.stepper.parameters)
        assert all("lora_" in name for name in weights.keys())  # noqa: SIM118  it is no dict


def test_bfloat16_weights_come_back_bit_for_bit(tmp_path):
    model = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    before = model.weight.detach().clone()
    write_checkpoint(tmp_path / "checkpoint-1", model, torch.optim.SGD(model.parameters()), Progress(step=1))
    with torch.no_grad():
        model.weight.zero_()
    load_trained(model, load_file(tmp_path / "checkpoint-1" / "adapter.safetensors"))
    assert torch.equal(model.weight, before)


def test_a_checkpoint_replaces_one_of_the_same_step(tmp_path):
    model = torch.nn.Linear(3, 2)
    folder = sealed(tmp_path, 1)
    write_checkpoint(folder, model, torch.optim.SGD(model.parameters()), Progress(step=1))
    assert not (folder / "weights.bin").exists()
    assert is_whole(folder)


def test_a_disk_that_is_full_takes_back_the_checkpoint_that_it_cut_off_and_names_the_one_before(tmp_path):
    whole, torn = sealed(tmp_path, 2), tmp_path / "checkpoint-4"
    with pytest.raises(DiskFull, match=f"no space left for {torn}. checkpoint-2 is complete. Free some"), new_folder(torn):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not torn.exists()
    shutil.rmtree(whole)
    with pytest.raises(DiskFull, match="No checkpoint was written yet"), new_folder(torn):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_error_passes_and_the_checkpoint_does_not_count(tmp_path):
    whole, torn = sealed(tmp_path, 2), tmp_path / "checkpoint-4"
    with pytest.raises(PermissionError), new_folder(torn):
        raise PermissionError(errno.EACCES, "no")
    assert newest_whole(tmp_path) == whole


def test_a_checkpoint_of_0_1_0_is_refused_in_one_line(tmp_path):
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    for name in (
        "adapter_model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
        "progress.json",
    ):
        (folder / name).write_text("{}")
    seal(folder)
    with pytest.raises(SettingsError) as raised:
        read_checkpoint(folder)
    assert str(raised.value) == (
        f"{folder} was written by lora-job 0.1.0, whose unfinished runs cannot be resumed. Choose another RUN_NAME, or set "
        "OVERWRITE=true to start again."
    )


def test_an_unfinished_run_of_0_1_0_is_78_and_overwrite_starts_it_again(stopped_run, run_job):
    variables, folder = stopped_run
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / MANIFEST).unlink()
        (checkpoint / "adapter.safetensors").rename(checkpoint / "adapter_model.safetensors")
        (checkpoint / "optimizer.safetensors").rename(checkpoint / "optimizer.pt")
        seal(checkpoint)
    code, said = run_job(**variables)
    assert code == 78
    assert said.splitlines()[-1].startswith(
        "output/r/checkpoints/checkpoint-3 was written by lora-job 0.1.0, whose unfinished runs"
    )
    assert json.loads((folder / "status.json").read_text())["exit_code"] == 78
    assert run_job("train", **variables | {"OVERWRITE": "true"})[0] == 0
