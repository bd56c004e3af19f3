"""The tables of docs/speed.md and their plot, from bench/results/: the last step of `make bench`."""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS, PLOT, PAGE = ROOT / "bench" / "results", ROOT / "docs" / "speed.svg", ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- speed -->\n", "<!-- /speed -->\n"
HEADS = ("", "examples/s", "ratio (spread)", "padding", "peak memory", "loss, held-out rows")
RATIOS = {"examples_per_s": "", "rows_per_cpu_s": "; ratios of the seconds of all cores"}
BLUE, GREY = "#2a6fbb", "#8a8a8a"


def main() -> None:
    """Writes the tables and the plot."""
    results = read_results()
    PAGE.write_text(with_tables(PAGE.read_text(), results))
    draw(results)


def read_results() -> list[dict]:
    """What `bench.speed` kept, a dict a machine and size."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob("speed-*.json"))]


def with_tables(text: str, results: list[dict]) -> str:
    """`text` with a table of each of `results` between the marks."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n".join(map(table, results)) + END + rest.partition(END)[2]


def table(result: dict) -> str:
    """A line on the machine, and a row a contender: medians, and the ratio to the first with its spread."""
    losses = [run["loss"] for row in result["table"] for run in row["runs"] if "loss" in run]
    seeds = len(result["table"][0]["runs"])
    lines = [
        f"{result['device']}, {result['cores']} cores, torch {result['torch']}; {result['model']}, {result['rows']} rows, "
        f"{result['effective_batch_size']} a step; {'one seed' if seeds == 1 else f'medians of {seeds} seeds'}, losses "
        f"{min(losses):.3f} to {max(losses):.3f}{RATIOS[result.get('unit', 'examples_per_s')]}:\n",
        _line(HEADS),
        _line(["---"] * len(HEADS)),
    ]
    for row in result["table"]:
        if "examples_per_s" not in row:
            lines.append(_line([row["name"], row["runs"][-1]["error"], *[""] * (len(HEADS) - 2)]))
            continue
        low, high = row["ratio_spread"]
        speed = [f"{row['examples_per_s']:.2f}", f"**{row['ratio']:.2f}** ({low:.2f} to {high:.2f})"]
        lines.append(
            _line([row["name"], *speed, f"{row['padding_share']:.0%}", f"{row['peak_gib']:.2f} GiB", f"{row['loss']:.4f}"])
        )
    return "\n".join(lines) + "\n"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def draw(results: list[dict]) -> None:
    """Bars of examples a second, a panel a machine and size."""
    mpl.rcParams["svg.hashsalt"] = "speed"  # the same file for the same figures
    panels, axes = plt.subplots(
        len(results), figsize=(8, 0.5 + 0.45 * sum(len(result["table"]) for result in results)), squeeze=False
    )
    for axis, result in zip(axes[:, 0], results, strict=True):
        rows = [row for row in result["table"] if "examples_per_s" in row][::-1]
        bars = axis.barh([row["name"] for row in rows], [row["examples_per_s"] for row in rows], color=BLUE)
        bars[-1].set_color(GREY)
        axis.bar_label(bars, [f"{row['examples_per_s']:.2f}, x {row['ratio']:.2f}" for row in rows], padding=4)
        axis.set_title(f"examples a second, {result['model']}, {result['device']}", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.25)
    panels.tight_layout()
    panels.savefig(PLOT, metadata={"Date": None}, facecolor="white", bbox_inches="tight")


if __name__ == "__main__":
    main()
