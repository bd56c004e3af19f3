"""What a training that survives interruption rests on: no trace of an evaluation, a full disk and NaN told with what is left."""

import errno
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from job.errors import DiskFull, Diverged
from job.training.checkpoints import seal
from job.training.resumable import check_finite, disk_full_as_error, preserved_random_state


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), torch.rand(1).item()]


def test_what_is_drawn_in_between_changes_no_later_draw():
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = [draws(), draws()]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    found = [draws()]
    with preserved_random_state(torch.device("cpu")):
        draws()
    assert [*found, draws()] == expected


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A sealed one of step 2."""
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"x")
    seal(folder)
    return folder


def test_a_disk_that_is_full_takes_back_the_checkpoint_that_it_cut_off_and_names_the_one_before(checkpoint):
    torn = checkpoint.with_name("checkpoint-4")
    torn.mkdir()
    with pytest.raises(DiskFull, match=f"no space left for {torn}. checkpoint-2 is whole. Free some"), disk_full_as_error(torn):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not torn.exists()
    shutil.rmtree(checkpoint)
    with pytest.raises(DiskFull, match="No checkpoint was written yet"), disk_full_as_error(torn):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_error_passes_and_deletes_nothing(checkpoint):
    with pytest.raises(PermissionError), disk_full_as_error(checkpoint):
        raise PermissionError(errno.EACCES, "no")
    assert checkpoint.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_trained_weight_that_is_not_finite_is_told_with_the_last_good_state(checkpoint, value):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2).requires_grad_(False))
    check_finite(model, checkpoint.parent)
    with torch.no_grad():
        model[1].weight[0, 0] = value
        check_finite(model, checkpoint.parent)  # frozen: not what was trained
        model[0].weight[1, 0] = value
    with pytest.raises(Diverged) as raised:
        check_finite(model, checkpoint.parent)
    assert str(raised.value) == (
        f"the trained weights hold NaN or infinity (0.weight). The last finite checkpoint is {checkpoint}. "
        "With another RUN_NAME lower LEARNING_RATE, raise WARMUP_STEPS or set PRECISION=fp32."
    )
