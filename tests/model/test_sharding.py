"""A base that is spread over the processes trains the adapter of one that is whole."""

import pytest
import torch

from tests.training.material import base_bytes, losses_of, make_model, run
from tests.training.test_ranks import check_against_one, run_ranks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "world_size", "micro_batch", "packed"), [("t5_folder", 2, 2, True), ("llama_folder", 3, 1, False)]
)
def test_ranks_that_hold_a_part_each_have_the_losses_and_the_adapter_of_one(
    kind, world_size, micro_batch, packed, request, tmp_path
):
    options = {"micro_batch": micro_batch, "packed": packed, "sharded": True}
    check_against_one(request.getfixturevalue(kind), tmp_path, world_size, **options)


def test_each_rank_holds_its_part_of_the_blocks(t5_folder, tmp_path):
    run_ranks(2, t5_folder, tmp_path, tmp_path / "result.pt", max_steps=1, sharded=True)
    model = make_model(t5_folder)
    blocks = [*model.get_base_model().encoder.block, *model.get_base_model().decoder.block]
    in_blocks = sum(one.nbytes for block in blocks for one in block.parameters() if not one.requires_grad)
    held = torch.load(tmp_path / "result.pt", weights_only=True)["base_bytes"]
    assert held == base_bytes(model) - in_blocks // 2


def test_a_stop_of_sharded_ranks_is_resumed_by_one_that_is_whole(t5_folder, tmp_path):
    expected, whole = run(t5_folder, tmp_path / "whole", max_steps=8)
    folder = tmp_path / "stopped"
    _, stopped = run_ranks(2, t5_folder, folder, tmp_path / "first.pt", max_steps=8, stop_after=4, sharded=True)
    assert 1 <= stopped.step < 8
    found, resumed = run(t5_folder, folder, max_steps=8)
    assert losses_of(resumed) == pytest.approx(losses_of(whole), rel=1e-5)
    assert (found - expected).norm() / expected.norm() < 1e-5
