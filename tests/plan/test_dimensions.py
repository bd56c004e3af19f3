"""The shape of a model."""

import pytest

from job.plan.dimensions import read_dimensions
from job.plan.model_catalogue import known_config


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


@pytest.mark.parametrize(
    ("size", "parameters", "adapter"),
    [("small", 76_961_152, 688_128), ("base", 247_577_856, 1_769_472), ("large", 783_150_080, 4_718_592),
     ("xl", 2_849_757_184, 9_437_184), ("xxl", 11_135_332_352, 18_874_368)],
)  # fmt: skip
def test_the_shape_counts_the_parameters_of_the_published_models(size, parameters, adapter):
    dimensions = read_dimensions(flan(size))
    assert dimensions.parameters == pytest.approx(parameters, rel=1e-3)
    assert dimensions.adapter(16) == adapter


def test_flops_are_those_of_the_published_table():
    """Useful GFLOP an example at 150 source and 30 target tokens: small to XXL 19, 78, 273, 1008, 3973."""
    sizes = ("small", "base", "large", "xl", "xxl")
    found = [read_dimensions(flan(size)).training_flops(150, 30) / 1e9 for size in sizes]
    assert found == pytest.approx([19, 78, 273, 1008, 3973], rel=0.03)
