"""The catalogue of GPUs: what makers publish, and what a card that is not in it borrows."""

import pytest

from job.plan.gpu_catalogue import closest_gpu, read_catalogue

CARDS = read_catalogue()


def test_a_machine_borrows_rates_from_its_like_and_a_price_only_from_its_own_kind():
    assert closest_gpu("Tesla V100-SXM2-16GB", 15.77, (7, 0)).price_usd_per_hour == CARDS["V100-16GB"].price_usd_per_hour
    other = closest_gpu("NVIDIA GeForce RTX 3090", 23.7, (8, 6))
    assert (other.dense_tflops, other.price_usd_per_hour) == (CARDS["A10G"].dense_tflops, None)


MAKERS = {  # GB on the box, compute capability, dense TFLOPS in the type it trains in, from NVIDIA's data sheets
    "V100-16GB": (16, (7, 0), "fp16", 125), "V100-32GB": (32, (7, 0), "fp16", 125), "T4": (16, (7, 5), "fp16", 65),
    "L4": (24, (8, 9), "bf16", 121), "A10G": (24, (8, 6), "bf16", 70), "A100-40GB": (40, (8, 0), "bf16", 312),
    "A100-80GB": (80, (8, 0), "bf16", 312), "H100": (80, (9, 0), "bf16", 989), "H200": (141, (9, 0), "bf16", 989),
    "B200": (180, (10, 0), "bf16", 2250),
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_what_its_maker_says(name):
    gb, capability, precision, tflops = MAKERS[name]
    card = CARDS[name]
    assert (card.name, card.kind, card.capability, card.precision) == (name, name, capability, precision)
    assert card.dense_tflops[precision] == tflops
    assert 0.9 * gb < card.memory_gib <= gb, "torch reports a little less than the box"
    assert card.speed is None, "until a run has measured it"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 6), "bf16"), ((10, 0), "bf16")])
def test_a_card_trains_in_bf16_from_8_0_on(capability, precision):
    assert closest_gpu("x", 16, capability).precision == precision


def test_the_card_in_a_machine_keeps_its_own_name_memory_and_capability():
    found = closest_gpu("NVIDIA A100-SXM4-40GB", 39.5, (8, 0))
    assert (found.name, found.memory_gib, found.capability, found.kind) == ("NVIDIA A100-SXM4-40GB", 39.5, (8, 0), "A100-40GB")
    assert closest_gpu("NVIDIA A100 80GB PCIe", 79.2, (8, 0)).kind == "A100-80GB"


def test_a_card_of_another_capability_borrows_from_the_nearest_memory_among_those_that_train_in_its_type():
    """The V100 has 32 GB like the RTX 5090, but no rate for bfloat16; that of float32 would be a twentieth of it."""
    found = closest_gpu("NVIDIA GeForce RTX 5090", 31.4, (12, 0))
    assert (found.kind, found.capability, found.price_usd_per_hour) == ("A100-40GB", (12, 0), None)
    assert closest_gpu("Quadro P6000", 23.9, (6, 1)).kind == "V100-32GB"


def test_a_catalogue_of_ones_own_is_read(tmp_path):
    path = tmp_path / "gpus.toml"
    path.write_text(
        "[Mine]\nmemory_gib = 11\ncapability = [6, 1]\ndense_tflops = { fp32 = 11 }\nmfu = 0.1\nmemory_gb_per_s = 480\n"
    )
    (card,) = read_catalogue(path).values()
    assert (card.name, card.capability, card.price_usd_per_hour, card.precision) == ("Mine", (6, 1), None, "fp16")
