"""The adapter against the untouched base model, on the held-out rows, with the same decoding."""

import csv
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from job.errors import Diverged
from job.evaluation.baseline import baseline_outputs
from job.evaluation.generate import Decoding, Ids, decode, generate_ids, measure_losses, prompt_of
from job.evaluation.metrics import CustomMetric, Scores, score
from job.labels import IGNORED
from job.model.lora import base_only
from job.system.durable import replace_durably
from job.system.ranks import Ranks
from job.tables.formulas import mark, unmark

TEXT_COLUMNS = ("input", "ground_truth", "base_output", "adapter_output", "baseline_output")


@dataclass(frozen=True)
class Scoring:
    """What is measured, and how outputs are made."""

    decoding: Decoding
    metrics: tuple[str, ...]
    custom_metric: CustomMetric | None = None


@dataclass(frozen=True)
class Evaluation:
    """Texts and scores of both sides, a row each."""

    inputs: list[str]
    truths: list[str]
    base_outputs: list[str]
    adapter_outputs: list[str]
    baseline_outputs: list[str]
    base_scores: Scores
    adapter_scores: Scores
    baseline_scores: Scores
    """Without the loss, which only a model has."""
    adapter_ids: list[Ids] = field(default_factory=list)
    """The adapter's outputs as tokens."""


def evaluate(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, data: tuple[Dataset, Dataset], scoring: Scoring, ranks: Ranks
) -> Evaluation:
    """Outputs and scores of base, adapter and the baseline; one model in memory, its adapter switched off for the base.

    data: training rows, which the baseline is taken from, and the held-out rows that are answered, both prepared. Each rank answers
    its share of the rows, and all have the result.
    """
    train, rows = data
    prompts = [prompt_of(row, model.config.is_encoder_decoder) for row in rows]
    inputs, truths = texts(rows, prompts, tokenizer, scoring.decoding.kept)
    with base_only(model):
        base_outputs, base_scores, _ = _answer_and_score(model, tokenizer, rows, (prompts, truths), scoring, ranks)
    adapter_outputs, adapter_scores, adapter_ids = _answer_and_score(model, tokenizer, rows, (prompts, truths), scoring, ranks)
    baseline = baseline_outputs(inputs, truths, train, tokenizer)
    baseline_scores = score(baseline, truths, scoring.metrics, scoring.custom_metric)
    outputs, scores = (base_outputs, adapter_outputs, baseline), (base_scores, adapter_scores, baseline_scores)
    return Evaluation(inputs, truths, *outputs, *scores, adapter_ids)


def _answer_and_score(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, asked: tuple[list, list[str]], scoring: Scoring,
    ranks: Ranks,
) -> tuple[list[str], Scores, list[Ids]]:  # fmt: skip
    """Outputs, their scores, and the outputs as tokens."""
    prompts, truths = asked
    mine = ranks.share([len(prompt) for prompt in prompts])
    answered = generate_ids(model, tokenizer, [prompts[row] for row in mine], scoring.decoding)
    ids = ranks.collect(dict(zip(mine, answered, strict=True)))
    outputs = decode(ids, tokenizer, scoring.decoding.kept)
    scores = score(outputs, truths, scoring.metrics, scoring.custom_metric)
    if "loss" in scoring.metrics:
        losses = measure_losses(model, tokenizer, [rows[row] for row in mine], scoring.decoding)
        scores["loss"] = ranks.collect(dict(zip(mine, losses, strict=True)))
    return outputs, scores, ids


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of an `evaluation.csv`, texts of any length."""
    csv.field_size_limit(sys.maxsize)
    is_marked = path.read_bytes()[:3] == BOM_UTF8  # files of 0.1.0 have neither this nor marks of formulas
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = [re.sub("^trivial_", "baseline_", column) for column in next(csv.reader(file))]  # as 0.1.0 called it
        rows = list(csv.DictReader(file, header))
    if not is_marked:
        return rows
    return [row | {name: unmark(row[name]) for name in TEXT_COLUMNS if row.get(name)} for row in rows]


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """The texts, then for each metric `base_<metric>`, `adapter_<metric>` and, but for the loss, `baseline_<metric>`.

    Made for spreadsheet programs: UTF-8 with the mark that tells them so, and texts that they would compute begin with an
    apostrophe. Raises Diverged for a score that is not finite.
    """
    partial = path.with_name(f"{path.name}.partial")
    names = list(evaluation.adapter_scores)
    written = [
        evaluation.inputs,
        evaluation.truths,
        evaluation.base_outputs,
        evaluation.adapter_outputs,
        evaluation.baseline_outputs,
    ]
    marked = [[mark(text) for text in column] for column in written]
    sides = {"base": evaluation.base_scores, "adapter": evaluation.adapter_scores, "baseline": evaluation.baseline_scores}
    scores = {f"{side}_{name}": found[name] for name in names for side, found in sides.items() if name in found}
    if bad := next((column for column, values in scores.items() if not np.isfinite(values).all()), None):
        raise Diverged(f"{path.name}: {bad} is not finite on a held-out row. Set PRECISION=fp32 and run `evaluate`.")
    with partial.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow([*TEXT_COLUMNS, *scores])
        writer.writerows(zip(*marked, *scores.values(), strict=True))
    replace_durably(partial, path)


def texts(
    rows: Dataset, prompts: Sequence[Ids], tokenizer: PreTrainedTokenizerBase, kept: Collection[int] = ()
) -> tuple[list[str], list[str]]:
    """Inputs and right answers of prepared rows; decoded, with the special tokens that are `kept`, where only tokens are known."""
    inputs = rows["input"][:] if "input" in rows.column_names else decode(prompts, tokenizer)
    if "ground_truth" in rows.column_names:
        return inputs, rows["ground_truth"][:]
    return inputs, decode([[label for label in labels if label != IGNORED] for labels in rows["labels"]], tokenizer, kept)
