"""Several GPUs: speeds that are worked out by hand, and what a fleet can hold that one card cannot."""

from dataclasses import replace

import pytest

from job.plan.choose import PlanConstraints, Workload, choose
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import read_catalogue
from job.plan.model_catalogue import known_config
from job.plan.several import FLEETS, Fleet, estimate_fleet, message_s
from job.system.hardware import GIB

WORK = Workload(longest=(256, 56), mean=(150, 30), row_passes=6400, effective_batch_size=32)
CARDS = read_catalogue()
XL, XXL = (read_dimensions(known_config(f"google/flan-t5-{size}")) for size in ("xl", "xxl"))


@pytest.mark.parametrize(
    ("fleet", "alone", "named"),
    [
        (Fleet(), "1", "1 L4"),
        (Fleet(1, 4, 100), "4", "4 L4"),
        (Fleet(2, 4, 10), "2 x 4, 10 Gbit/s", "2 x 4 L4, 10 Gbit/s"),
    ],
)
def test_gpus_are_told_by_number_kind_and_network(fleet, alone, named):
    assert (str(fleet), fleet.of("L4")) == (alone, named)


def test_one_gpu_is_planned_as_ever():
    for card in CARDS.values():
        alone = choose(XL, card, WORK, PlanConstraints())
        found = estimate_fleet(XL, card, WORK, PlanConstraints(), Fleet())
        assert found.examples_per_s == pytest.approx(alone.examples_per_s)
        assert (found.plan, found.gpu, found.hours) == (alone.plan, card, pytest.approx(alone.hours))


def test_the_message_of_four_cards_passes_twice_but_a_quarter_over_the_link():
    """38 MB over 12 GB/s: 1.5 times 3.1 ms, and six hops of 10 microseconds."""
    assert message_s(38e6, CARDS["L4"], Fleet(1, 4)) == pytest.approx(2 * 3 / 4 * 38e6 / 12e9 + 6 * 10e-6)
    assert message_s(38e6, CARDS["L4"], Fleet()) == 0


@pytest.mark.parametrize(("gbits", "gb_per_s"), [(10, 1.25), (25, 3.125), (100, 12)])
def test_between_machines_the_slower_of_network_and_bus_counts(gbits, gb_per_s):
    expected = 2 * 7 / 8 * 38e6 / (gb_per_s * 1e9) + 14 * 50e-6
    assert message_s(38e6, CARDS["L4"], Fleet(2, 4, gbits)) == pytest.approx(expected)


def test_the_speed_hours_and_price_of_eight_are_those_of_one_with_an_eighth_of_the_batch_and_the_message():
    card = CARDS["A100-40GB"]
    share = choose(XL, card, replace(WORK, effective_batch_size=4), PlanConstraints())
    step_s = 4 / share.examples_per_s + message_s(4 * 9_437_184, card, Fleet(1, 8))
    found = estimate_fleet(XL, card, WORK, PlanConstraints(), Fleet(1, 8))
    assert found.examples_per_s == pytest.approx(32 / step_s)
    assert found.hours == pytest.approx(200 * step_s / 3600), "6,400 rows in batches of 32 are 200 steps"
    assert found.gpu.price_usd_per_hour == pytest.approx(8 * card.price_usd_per_hour)


def test_more_gpus_than_rows_in_a_batch_are_no_faster():
    few = replace(WORK, effective_batch_size=4)
    four, eight = (estimate_fleet(XL, CARDS["L4"], few, PlanConstraints(), Fleet(1, gpus)) for gpus in (4, 8))
    assert eight.examples_per_s < four.examples_per_s


def test_what_no_card_holds_alone_two_hold_sharded_and_a_slow_network_is_felt():
    """FLAN-T5 XXL in bf16 is 20.7 GiB, an L4 has 22.05 with CUDA's own; what is in its blocks travels twice a
    micro-batch."""
    open_ = PlanConstraints(quantization="none")
    alone, two, near, far = (
        estimate_fleet(XXL, CARDS["L4"], WORK, open_, fleet) for fleet in (Fleet(), Fleet(1, 2), Fleet(2, 4, 100), Fleet(2, 4, 10))
    )
    assert (alone.fits, two.fits, two.plan.shards) == (False, True, 2)
    assert two.peak_bytes < 22 * GIB < alone.peak_bytes
    assert far.plan.shards == 8
    blocks = 2 * (XXL.parameters - XXL.embeddings)
    assert 32 / far.examples_per_s == pytest.approx(2 * far.accumulation * blocks * 7 / 8 / 1.25e9, rel=0.01)
    assert near.examples_per_s > 5 * far.examples_per_s


def test_a_micro_batch_that_was_asked_for_is_no_larger_than_a_gpus_share():
    found = [estimate_fleet(XL, CARDS["L4"], WORK, PlanConstraints(micro_batch=8), fleet).plan.micro_batch for fleet in FLEETS]
    assert found == [8, 8, 8, 4, 4, 4]
