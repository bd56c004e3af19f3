"""The plots."""

import re

import numpy as np
import pytest

from job.publish import plots


@pytest.mark.parametrize(
    "svg",
    [
        plots.curve({"training": [(1, 2.0), (2, 1.0)], "held-out rows": [(2, 1.5)]}, "loss"),
        plots.histogram(np.array([3, 4, 4, 9]), 8, "tokens an input"),
        plots.histogram(np.array([7]), 7, "tokens an input"),
        plots.differences([("exact match", 0.5, 0.4, 0.6), ("rougeL", -1.0, -1.2, -0.8)], "adapter - base"),
    ],
)
def test_a_plot_takes_its_colours_and_its_width_from_the_page(svg):
    assert svg.startswith("<svg ")
    head = svg[: svg.index(">")]
    assert "viewBox" in head
    assert not re.search(r'\b(width|height)="', head)
    assert not set(re.findall(r"#[0-9a-f]{6}", svg)) & set(plots.VARIABLES)
    assert "var(--first)" in svg
    assert "var(--ink)" in svg
    assert "http" not in re.sub(r'(xmlns(:\w+)?)="[^"]*"', "", svg).replace("http://www.w3.org/TR", "")
