"""The plots show the numbers that they are given, in the colours of the page."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from job.publish import plots


@pytest.mark.parametrize(
    "svg",
    [
        plots.curve({"training": [(1, 2.0), (2, 1.0)], "held-out rows": [(2, 1.5)]}, "loss"),
        plots.histogram(np.array([3, 4, 4, 9]), 8, "tokens an input"),
        plots.histogram(np.array([7]), 7, "tokens an input"),
        plots.best_so_far([(0, 2.0), (2, 0.1)], [(1, 3.0)], "loss", more_is_better=False),
        plots.best_so_far([(0, 0.5)], [], "exact match", more_is_better=True),
        plots.bars({"LORA_R": 0.2, "LEARNING_RATE": 0.8}, "share"),
        plots.power_law([10, 100], [2.0, 1.0], 0.3),
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


def texts(svg: str) -> list[str]:
    """What is written in a plot."""
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_curve_names_its_lines_only_where_there_are_two():
    assert "step" in texts(plots.curve({"training": [(1, 2.0), (2, 1.0)]}, "loss"))
    assert "loss" in texts(plots.curve({"training": [(1, 2.0), (2, 1.0)]}, "loss"))
    assert "training" not in texts(plots.curve({"training": [(1, 2.0), (2, 1.0)]}, "loss"))
    both = plots.curve({"training": [(1, 2.0), (2, 1.0)], "held-out rows": [(2, 1.5)]}, "loss")
    assert {"training", "held-out rows"} <= set(texts(both))
    assert "var(--second)" in both


@pytest.mark.parametrize(("points", "has_markers"), [(19, True), (20, False)])
def test_few_points_are_marked_and_many_are_a_line(points, has_markers):
    svg = plots.curve({"training": [(step, 1 / step) for step in range(1, points + 1)]}, "loss")
    in_its_colour = svg.count("var(--first)")
    assert in_its_colour >= 1 + points if has_markers else in_its_colour == 1


def test_a_histogram_says_where_longer_rows_are_cut():
    assert {"cut at 8", "rows", "tokens an input"} <= set(texts(plots.histogram(np.array([3, 4, 4, 9]), 8, "tokens an input")))


@pytest.mark.parametrize(("lengths", "bars"), [([3, 4, 4, 9], 7), ([7], 1), (range(1000), 30)])
def test_a_histogram_has_a_bar_a_length_and_thirty_at_most(monkeypatch, lengths, bars):
    drawn = []
    usual = Axes.hist
    monkeypatch.setattr(Axes, "hist", lambda axes, *args, **options: drawn.append(usual(axes, *args, **options)) or drawn[-1])
    plots.histogram(np.array(list(lengths)), 8, "tokens")
    counts, edges, _ = drawn[0]
    assert len(counts) == bars
    assert counts.tolist() == np.histogram(list(lengths), bars)[0].tolist()
    assert (edges[0], edges[-1]) == (min(lengths) - (bars == 1) / 2, max(lengths) + (bars == 1) / 2)


def test_the_differences_stand_in_the_order_of_the_metrics_from_the_top_each_at_its_name(monkeypatch):
    scores = [("exact match", 0.5, 0.4, 0.6), ("rougeL", -1.0, -1.2, -0.8), ("loss", 0.0, -0.1, 0.1)]
    drawn, names = {}, {}
    plot, ticks = Axes.plot, Axes.set_yticks
    monkeypatch.setattr(Axes, "plot", lambda axes, x, y, *a, **o: drawn.update({str(x): y}) or plot(axes, x, y, *a, **o))
    monkeypatch.setattr(
        Axes, "set_yticks", lambda axes, y, labels: names.update(zip(labels, y, strict=True)) or ticks(axes, y, labels)
    )
    plots.differences(scores, "adapter - base")
    assert names["exact match"] > names["rougeL"] > names["loss"], "upwards"
    for name, difference, low, high in scores:
        assert drawn[str(difference)] == names[name]
        assert drawn[str([low, high])] == [names[name]] * 2


def test_the_same_numbers_make_the_same_picture():
    """A report that is written again has no other bytes."""
    assert len({plots.histogram(np.array([3, 4, 4, 9]), 8, "tokens") for _ in range(2)}) == 1


def test_a_label_cannot_be_markup():
    assert "<b>x</b> & y" in texts(plots.curve({"training": [(1, 2.0)]}, "<b>x</b> & y"))


def test_the_best_so_far_never_gets_worse(monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "step", lambda self, x, y, **_: drawn.append(list(y)))
    for more in (False, True):
        plots.best_so_far([(0, 3.0), (1, 1.0), (2, 2.0), (3, 4.0)], [], "loss", more_is_better=more)
    assert drawn == [[3, 1, 1, 1], [3, 3, 3, 4]]


def test_the_law_goes_on_to_twice_the_rows_through_the_middle_of_the_points(monkeypatch):
    drawn = []
    usual = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, *a, **k: drawn.append((np.array(x), np.array(y))) or usual(self, x, y, *a, **k)
    )
    plots.power_law([10, 1000], [2 * 10**-0.5, 2 * 1000**-0.5], 0.5)
    x, y = drawn[-1]
    assert (x[0], x[-1]) == pytest.approx((10, 2000))
    assert y == pytest.approx(2 * x**-0.5)
