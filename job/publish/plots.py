"""The report's plots as inline SVG that takes its colours from the page, light or dark."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, FIRST, SECOND = "#010203", "#010204", "#010205"
VARIABLES = {INK: "var(--ink)", FIRST: "var(--first)", SECOND: "var(--second)"}
"""Colours that no plot has, and what the page puts in their place."""
SIZE = (6.4, 2.6)
BINS = 30
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 9, "font.family": "sans-serif", "text.color": INK,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False,
}  # fmt: skip

Points = Sequence[tuple[float, float]]


def curve(lines: Mapping[str, Points], label: str) -> str:
    """Lines of (step, value), in two colours."""

    def draw(axes: Axes) -> None:
        for (name, points), color in zip(lines.items(), (FIRST, SECOND), strict=False):
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=color, label=name, marker="o" if len(points) < 20 else None, markersize=3)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if len(lines) > 1:
            axes.legend()

    return _svg(draw)


def histogram(lengths: np.ndarray, cut: int, label: str) -> str:
    """Lengths in tokens, with a line where longer ones are cut."""

    def draw(axes: Axes) -> None:
        axes.hist(lengths, bins=min(BINS, int(lengths.max() - lengths.min()) + 1), color=FIRST)
        axes.axvline(cut, color=SECOND, linestyle="--", label=f"cut at {cut}")
        axes.set_xlabel(label)
        axes.set_ylabel("rows")
        axes.legend()

    return _svg(draw)


def differences(scores: Sequence[tuple[str, float, float, float]], label: str) -> str:
    """A dot a metric (name, difference, low, high) with its interval, and the line of no difference."""

    def draw(axes: Axes) -> None:
        for place, (_, difference, low, high) in enumerate(reversed(scores)):
            axes.plot([low, high], [place, place], color=FIRST, linewidth=2)
            axes.plot(difference, place, "o", color=FIRST)
        axes.axvline(0, color=SECOND, linestyle="--")
        axes.set_yticks(range(len(scores)), [name for name, *_ in reversed(scores)])
        axes.set_xlabel(label)
        axes.set_ylim(-0.6, len(scores) - 0.4)

    return _svg(draw, (SIZE[0], 0.9 + 0.32 * len(scores)))


def best_so_far(points: Points, given_up: Points, label: str, more_is_better: bool) -> str:
    """A dot a trial, (number, value), a cross where it was given up, and the line of the best up to each."""

    def draw(axes: Axes) -> None:
        numbers, values = zip(*points, strict=True)
        best = np.maximum.accumulate(values) if more_is_better else np.minimum.accumulate(values)
        axes.step(numbers, best, where="post", color=SECOND, label="best so far")
        axes.plot(numbers, values, "o", color=FIRST, markersize=4, label="to the end")
        if given_up:
            axes.plot(*zip(*given_up, strict=True), "x", color=INK, markersize=4, label="given up")
        shown = [value for _, value in (*points, *given_up)]
        if min(shown) > 0 and max(shown) >= 10 * min(shown):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel(label)
        axes.legend()

    return _svg(draw)


def bars(shares: Mapping[str, float], label: str) -> str:
    """A bar a name, the largest on top."""

    def draw(axes: Axes) -> None:
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(names, [shares[name] for name in names], color=FIRST)
        axes.set_xlabel(label)

    return _svg(draw, (SIZE[0], 0.9 + 0.32 * len(shares)))


def power_law(rows: Sequence[int], losses: Sequence[float], exponent: float) -> str:
    """Losses at numbers of rows, and the law of this exponent through them to twice the rows; both axes by the logarithm."""

    def draw(axes: Axes) -> None:
        x = np.geomspace(rows[0], 2 * rows[-1], 50)
        scale = np.exp(np.mean(np.log(losses) + exponent * np.log(rows)))
        axes.plot(rows, losses, "o", color=FIRST, markersize=4)
        axes.plot(x, scale * x**-exponent, color=SECOND, linestyle="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("training rows")
        axes.set_ylabel("loss")
        axes.set_xticks([*rows, 2 * rows[-1]], [f"{count:,}" for count in (*rows, 2 * rows[-1])])
        axes.minorticks_off()

    return _svg(draw)


def _svg(draw: Callable[[Axes], None], size: tuple[float, float] = SIZE) -> str:
    """What `draw` puts into a pair of axes, as an <svg> without prologue and size."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        draw(figure.subplots())
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", text[text.index("<svg") :])  # the page scales it
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    return text
