"""What a person is shown of the data, gathered from what was prepared."""

from collections.abc import Iterator

import numpy as np

from job.data.lengths import Truncation
from job.data.look import Found, Look, PartCounts, TableFacts, percent, share
from job.data.prepared import PreparedData
from job.data.token_lengths import expand_counts
from job.publish import plots
from job.publish.data_page import DataPage, ShownRow, Table
from job.publish.report import plot

SHOWN_FILES = 5

Fact = tuple[str, str]


def data_warnings(prepared: PreparedData, add_tokens: str) -> list[str]:
    """All that a person should know before training, a line each. add_tokens: ADD_TOKENS as it is set."""
    return [*(prepared.look.warnings() if prepared.look else []), *prepared.unknown.warnings(add_tokens)]


def data_page(name: str, prepared: PreparedData, add_tokens: str) -> DataPage:
    """The look at the data of the run of this name; what an older version did not count is left out."""
    look = prepared.look
    subtitle = f"{len(prepared.train):,} training rows, {len(prepared.evaluation):,} held out"
    facts = [*(_tables(look) if look else ()), *_cuts(prepared), *(_counts(look) if look else ()), *_characters(prepared)]
    tables = [*_lengths(prepared), *(_labels(look) if look else ())]
    return DataPage(
        title=name,
        subtitle=subtitle,
        warnings=tuple(data_warnings(prepared, add_tokens)),
        facts=tuple(facts),
        tables=tuple(tables),
        rows=_first_rows(look) if look else (),
    )


def length_plots(prepared: PreparedData) -> list[dict[str, object]]:
    """Histograms of the training rows' inputs and answers; none where the lengths are not known."""
    made = []
    for side, counts, longest in _sides(prepared):
        label = f"tokens {'a' if side == 'chat' else 'an'} {side}"
        made.append(plot(plots.histogram(expand_counts(counts), longest, label), f"Training rows by {label}, before the cut"))
    return made


def _sides(prepared: PreparedData) -> Iterator[tuple[str, dict[str, int], int]]:
    cut = prepared.train_truncation
    if prepared.source_lengths:
        yield "chat" if prepared.chat else "input", prepared.source_lengths, cut.max_source_length
    if prepared.target_lengths:
        yield "answer", prepared.target_lengths, cut.max_target_length


def _tables(look: Look) -> Iterator[Fact]:
    for name, table in zip(("training data", "held-out data"), look.tables, strict=False):
        yield name, _described(table)
        yield "read as", f"{table.shape}, from {_listed(table.used)}"
        if table.unused:
            yield "not used", _listed(table.unused)
        if table.left_out:
            count, more = table.rows - table.kept, " and more" if table.rows - table.kept > len(table.left_out) else ""
            yield "left out", f"{count:,} rows without an input or an answer: {', '.join(table.left_out)}{more}"
        for note in table.notes:
            yield "note", note


def _described(table: TableFacts) -> str:
    sheet = f', sheet "{table.sheet}"' if table.sheet else ""
    files = ", ".join(f"{name} ({rows:,})" for name, rows in table.files[:SHOWN_FILES])
    if table.files[SHOWN_FILES:]:
        files += f" and {len(table.files) - SHOWN_FILES} more"
    return f"{table.source}{sheet}: {table.rows:,} rows" + (f", of {files}" if files else "")


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _cuts(prepared: PreparedData) -> Iterator[Fact]:
    parts: dict[str, Truncation] = {"training rows": prepared.train_truncation, "held-out rows": prepared.eval_truncation}
    for name, cut in parts.items():
        yield name, cut.describe(name).removeprefix(f"{name}: ")


def _counts(look: Look) -> Iterator[Fact]:
    parts = {"training": look.training, "held-out": look.held_out}
    yield "contradictions", _both(parts, "contradictory", "the same input, another answer")
    yield "exact match", f"can reach {share(look.held_out)} of the held-out rows"
    yield "repeated rows", _both(parts, "repeated", "the same input, the same answer")
    shared = look.shared
    told = (
        f"{shared.rows:,} held-out inputs are in training too, the first: held-out {shared.first[0]} is training {shared.first[1]}"
        if shared.rows
        else "none"
    )
    yield "near-duplicates", f"{told} (compared without case, white space and sentence marks, and as they are cut)"
    for name, field in (("short inputs", "short_inputs"), ("wordless answers", "wordless_answers")):
        if any(getattr(part, field).rows for part in parts.values()):
            yield name, _both(parts, field, "one or two characters" if field == "short_inputs" else "no letter and no digit")
    if look.chats:
        lengths = expand_counts(look.chats.messages)
        roles = ", ".join(f"{role} {count:,}" for role, count in look.chats.roles.items())
        tools = f"; {look.chats.with_tools:,} chats with tools" if look.chats.with_tools else ""
        median = int(np.percentile(lengths, 50, method="lower"))
        spread = f"{lengths.min()} to {lengths.max()} messages, median {median}" if np.ptp(lengths) else f"{median} messages each"
        yield "chats", f"{spread}; messages by role: {roles}{tools}"
    yield "answers", f"{look.answers.different:,} different ones in the training rows"


def _both(parts: dict[str, PartCounts], field: str, meaning: str) -> str:
    """How many rows have it, in which part, and the first."""
    found: dict[str, Found] = {name: getattr(part, field) for name, part in parts.items()}
    told = [
        f"{one.rows:,} of {parts[name].rows:,} {name} rows (the first: {one.first[0]})" for name, one in found.items() if one.rows
    ]
    return f"{' and '.join(told)}: {meaning}" if told else "none"


def _characters(prepared: PreparedData) -> Iterator[Fact]:
    unknown = prepared.unknown
    if unknown.inputs and not any(part.lossy for part in (*unknown.inputs, *unknown.answers)):
        yield "unknown characters", "none: the tokenizer can read and write every text"
    elif unknown.inputs:
        lossy = {"inputs": unknown.inputs, "answers": unknown.answers}
        yield (
            "unknown characters",
            " and ".join(f"in {sum(part.lossy for part in parts):,} {side}" for side, parts in lossy.items()),
        )
    if added := unknown.describe_added():
        yield "added characters", added


def _lengths(prepared: PreparedData) -> Iterator[Table]:
    lines = []
    for side, counts, longest in _sides(prepared):
        lengths = expand_counts(counts)
        shown = [np.percentile(lengths, percentile, method="lower") for percentile in (0, 50, 95, 100)]
        lines.append((f"{side}s", *(f"{int(number):,}" for number in shown), f"{longest:,}"))
    if lines:
        yield Table(
            "Training rows in tokens, before the cut", ("", "shortest", "median", "95 %", "longest", "cut at"), tuple(lines)
        )


def _labels(look: Look) -> Iterator[Table]:
    training, held_out = look.training.rows, look.held_out.rows
    lines = tuple(
        (
            label.text,
            f"{label.training:,}",
            percent(label.training, training),
            f"{label.held_out:,}",
            percent(label.held_out, held_out),
        )
        for label in look.answers.frequent
    )
    if lines:
        title = (
            f"The {len(lines)} most frequent of {look.answers.different:,} answers"
            if look.answers.different > len(lines)
            else "Answers"
        )
        yield Table(title, ("", "training rows", "share", "held-out rows", "share"), lines)


def _first_rows(look: Look) -> tuple[ShownRow, ...]:
    return tuple(
        ShownRow(
            f"{row.name}: reads {row.tokens[0]:,} tokens, learns to write {row.tokens[1]:,}",
            tuple(("writes" if piece.trained else "reads", piece.text) for piece in row.pieces),
        )
        for row in look.first
    )
