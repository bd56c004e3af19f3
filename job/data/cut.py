"""Rows without what is too long, and a list of those that lost something."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from job.data.lengths import Truncation, measure_truncation
from job.data.token_lengths import token_lengths


def cut(tokenised: Dataset, assembled: Dataset, longest: tuple[int, int], too_long: str) -> tuple[Dataset, Truncation]:
    """The rows without those that have no label left (or, with "drop", were longer than `longest`), and what the cut cost."""
    sources, targets = token_lengths(tokenised, "source_ids"), token_lengths(tokenised, "target_ids")
    cost = measure_truncation(sources, targets, longest)
    dropped = np.asarray(assembled["label_count"][:]) == 0
    if too_long == "drop":
        dropped |= (sources > longest[0]) | (targets > longest[1])
    if dropped.any():
        names = tuple(assembled[int(index)]["row"] for index in np.flatnonzero(dropped))
        cost = replace(cost, dropped=names, rows=int((~dropped).sum()))
        assembled = assembled.select(np.flatnonzero(~dropped))
    return assembled.remove_columns(["label_count"]), cost


def list_cut_rows(path: Path, parts: dict[str, Dataset], longest: tuple[int, int]) -> None:
    """Writes a line for each row that is longer than `longest`: which it is, its tokens, and how many are kept."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("part", "row", "input_tokens", "input_tokens_kept", "answer_tokens", "answer_tokens_kept"))
        for part, rows in parts.items():
            sources, targets = token_lengths(rows, "source_ids"), token_lengths(rows, "target_ids")
            for place in np.flatnonzero((sources > longest[0]) | (targets > longest[1])):
                source, target = int(sources[place]), int(targets[place])
                kept = min(source, longest[0]), min(target, longest[1])
                writer.writerow((part, rows[int(place)]["row"], source, kept[0], target, kept[1]))
