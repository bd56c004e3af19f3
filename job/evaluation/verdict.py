"""What `evaluation.csv` says, in one line."""

import csv
from pathlib import Path

from job.evaluation.metrics import LOWER_IS_BETTER, METRICS

TEXTS = ("base_output", "adapter_output")


def read_means(path: Path) -> tuple[int, dict[str, tuple[float, float]]]:
    """(number of rows, metric -> (base, adapter)) of an `evaluation.csv`."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [column.removeprefix("adapter_") for column in rows[0] if column.startswith("adapter_") and column not in TEXTS]
    return len(rows), {
        name: (_mean([float(row[f"base_{name}"]) for row in rows]), _mean([float(row[f"adapter_{name}"]) for row in rows]))
        for name in names
    }


def read_verdict(path: Path) -> str:
    """One line from an `evaluation.csv`: "on 120 rows exact match 2.5 % -> 93.3 %", then the other metrics."""
    rows, means = read_means(path)
    return f"on {rows} rows " + ", ".join(f"{name.replace('_', ' ')} {_pair(name, *pair)}" for name, pair in means.items())


def _pair(name: str, base: float, adapter: float) -> str:
    if name in METRICS and name not in LOWER_IS_BETTER:
        return f"{100 * base:.1f} % -> {100 * adapter:.1f} %"
    return f"{base:.3f} -> {adapter:.3f}" + (" (lower is better)" if name in LOWER_IS_BETTER else "")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
