"""The command `compare`: what runs had in common, what not, and which is better, from what each left in OUTPUT_DIR."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from job.config.identity import format_value
from job.config.settings import Settings
from job.errors import InputMissing, SettingsError
from job.evaluation.evaluate import read_csv
from job.evaluation.verdict import bootstrap_intervals, name, number, read_scores, signed
from job.pipeline.records import PlanRecord
from job.pipeline.run_folder import RunFolder
from job.publish.report import render
from job.system.console import print_lines, tabulate
from job.system.durable import write_text

SHOWN_LETTERS = 40
PAGE, TEMPLATE = "compare.html", "compare.html.j2"


@dataclass(frozen=True)
class Run:
    """What one run left."""

    name: str
    settings: dict[str, object]
    asked: list[tuple[str, str]]
    """Input and right answer of each held-out row."""
    scores: dict[str, np.ndarray]
    """Metric -> the adapter's score of each row."""
    training_s: float | None


@dataclass(frozen=True)
class Table:
    """A table with a head, a line each for what is compared."""

    title: str
    head: list[str]
    lines: list[list[str]]
    note: str = ""

    def __str__(self) -> str:
        return "\n".join([self.title, tabulate([self.head, *self.lines]), *([self.note] if self.note else [])])


def compare(settings: Settings, runs: Sequence[str]) -> None:
    """Prints which settings of these runs differ, and their scores; the same as a page is in OUTPUT_DIR/compare.html."""
    print_lines([compare_runs(settings.output_dir, runs)])


def compare_runs(output_dir: Path, names: Sequence[str]) -> str:
    """The tables for the terminal; the same as a page is in `output_dir`/compare.html.

    Raises SettingsError for fewer than two runs, InputMissing for one that is not there or was not evaluated.
    """
    names = list(dict.fromkeys(Path(one).name for one in names))  # folders, as a shell completes them, will do
    if len(names) < 2:
        raise SettingsError("compare: two runs or more are needed, such as: compare first second")
    runs = [read_run(output_dir, one) for one in names]
    tables = [_settings(runs), _scores(runs), *([_differences(runs)] if _asked_the_same(runs) else [])]
    write_text(output_dir / PAGE, render(TEMPLATE, {"title": " against ".join(names), "tables": tables}))
    return "\n\n".join([*map(str, tables), f"The same as a page: {output_dir / PAGE}"])


def read_run(output_dir: Path, run_name: str) -> Run:
    """The run of this name in `output_dir`."""
    folder = RunFolder(output_dir / run_name, logs=Path())
    if not folder.evaluation.exists():
        evaluated = ", ".join(sorted(path.parent.name for path in output_dir.glob("*/evaluation.csv"))) or "none"
        raise InputMissing(f"{folder.path}: no evaluated run there; OUTPUT_DIR={output_dir} has {evaluated}. Name one of these.")
    rows, record = read_csv(folder.evaluation), folder.read_settings()
    metrics, scores = read_scores(rows, "adapter")
    return Run(
        run_name,
        record.settings | record.content,
        [(row["input"], row["ground_truth"]) for row in rows],
        {metric: scores[:, place] for place, metric in enumerate(metrics)},
        PlanRecord.read(folder.plan).seconds.get("training") if folder.plan.exists() else None,
    )


def _settings(runs: list[Run]) -> Table:
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    differing = [key for key in keys if len({json.dumps(run.settings.get(key)) for run in runs}) > 1]
    lines = [[_variable(key), *_shown([run.settings.get(key) for run in runs])] for key in differing]
    return Table("Settings that differ", ["", *(run.name for run in runs)], lines, "" if lines else "None.")


def _variable(key: str) -> str:
    return key if " " in key else key.upper()


def _shown(values: list[object]) -> list[str]:
    """The values as texts; of long ones what follows the part that all have in common."""
    texts = [format_value(value) for value in values]
    if max(map(len, texts)) <= SHOWN_LETTERS:
        return texts
    same = next((place for place, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), min(map(len, texts)))
    begin = max(0, same - SHOWN_LETTERS // 4)
    return [("…" if begin else "") + shorten(text[begin:]) for text in texts]


def shorten(text: str) -> str:
    """`text` in one line, cut where it is long."""
    line = text.replace("\n", "⏎")
    return line if len(line) <= SHOWN_LETTERS else f"{line[: SHOWN_LETTERS - 1]}…"


def _scores(runs: list[Run]) -> Table:
    """The adapters' means with the 95 % interval of each."""
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.scores))
    lines = [[name(metric), *(_mean(run, metric) for run in runs)] for metric in metrics]
    lines.append(["held-out rows", *(f"{len(run.asked):,}" for run in runs)])
    if any(run.training_s for run in runs):
        took = [str(timedelta(seconds=round(run.training_s))) if run.training_s else "" for run in runs]
        lines.append(["training took", *took])
    note = "" if _asked_the_same(runs) else "The held-out rows are not the same: these scores cannot be compared row by row."
    return Table("Scores of the adapters, with 95 % intervals", ["", *(run.name for run in runs)], lines, note)


def _mean(run: Run, metric: str) -> str:
    if metric not in run.scores:
        return ""
    scores = run.scores[metric]
    (low,), (high,) = bootstrap_intervals(scores[:, None])
    return f"{number(metric, scores.mean())} ({number(metric, low)} to {number(metric, high)})"


def _asked_the_same(runs: list[Run]) -> bool:
    return all(run.asked == runs[0].asked for run in runs)


def _differences(runs: list[Run]) -> Table:
    """Every other run minus the first, row by row: narrower than the means suggest, since both answered the same rows."""
    first, others = runs[0], runs[1:]
    metrics = [metric for metric in first.scores if all(metric in run.scores for run in others)]
    lines = []
    for metric in metrics:
        differences = np.stack([run.scores[metric] - first.scores[metric] for run in others], axis=1)
        lows, highs = bootstrap_intervals(differences)
        intervals = zip(differences.mean(0), lows, highs, strict=True)
        lines.append(
            [name(metric), *(f"{signed(metric, d)} ({signed(metric, a)} to {signed(metric, b)})" for d, a, b in intervals)]
        )
    title = f"Difference to {first.name} on the same rows, with 95 % intervals (paired bootstrap)"
    return Table(title, ["", *(run.name for run in others)], lines)
