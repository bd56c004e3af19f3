"""Which columns of a table are inputs and right answers: as a person says, else by the names that data usually has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from job.data.chat_shapes import find_chats
from job.data.column_mapping import AUTO, INPUT, MESSAGES, TARGET, TEMPLATE, ColumnMapping, as_spelt
from job.data.fields import field, first_cells
from job.data.header import is_data
from job.data.template import Template
from job.data.usual_names import USUAL
from job.errors import DataError
from job.tables.file_rows import first_of, in_quotes, quoted
from job.tables.table import Table

ABOUT_TEXT = {"id", "meta", "metadata", "source", "url", "timestamp", "lang", "language"}
"""Columns that stand beside plain text."""
NAMED = 12
"""Columns that a line names."""


@dataclass(frozen=True)
class Shape:
    """How a table is read."""

    kind: str
    columns: ColumnMapping
    found: tuple[str, ...]
    """The columns of the table."""
    chat_columns: tuple[str, ...] = ()
    """What chats are made of; nothing where the rows are none."""

    @property
    def is_chat(self) -> bool:
        """Whether the rows are chats."""
        return bool(self.chat_columns)

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read, in the order of the table."""
        if self.is_chat:
            names = list(self.chat_columns)
        else:
            template = Template(self.columns.template, self.columns.input)
            names = [*template.columns, self.columns.target, *(self.found if template.reads_whole_row else ())]
        roots = {name if name in self.found else name.partition(".")[0] for name in names}
        return tuple(name for name in self.found if name in roots)

    @property
    def unused(self) -> tuple[str, ...]:
        """The columns that nobody reads."""
        return tuple(name for name in self.found if name not in self.used)

    def describe(self) -> str:
        """One line for a person: what was recognised, which columns are read, and which are not."""
        if self.is_chat:
            found = f"{self.kind}, from {quoted(self.used)}"
        else:
            prompt = Template(self.columns.template, self.columns.input).columns or self.used
            found = f"{self.kind}: inputs from {quoted(prompt)}, right answers from {quoted([self.columns.target])}"
        if not self.unused:
            return f"{found}; every column is used"
        return f"{found}; not used: {first_of(self.unused, in_quotes, NAMED)}"


def recognise(table: Table, columns: ColumnMapping) -> Shape:
    """How `table` is read. Raises DataError where no shape fits, or several do and the person has not said which."""
    columns = as_spelt(columns, table.rows.column_names)
    names, found, chats = _by_usual_spelling(table), tuple(table.rows.column_names), find_chats(table, columns.messages)
    chat = Shape(chats.form, replace(columns, messages=chats.column), found, chats.sources) if chats else None
    if columns.input != AUTO and (has_field(table, columns.input) or not chat):
        given = replace(columns, target=_target(table, columns, names), template=_or(columns.template, TEMPLATE))
        return Shape("as set", given, found)
    if chat and (columns.input != AUTO or columns.messages != AUTO or chats.column not in found):  # type: ignore[union-attr]
        return chat
    if INPUT in names and columns.target in (AUTO, TARGET) and TARGET in names:
        return Shape("input and right answer", _filled(columns, names[INPUT], names[TARGET], TEMPLATE), found)
    fits = _fits(table, columns, names) or _of_template(table, columns, names)
    if len(fits) + bool(chat) > 1:
        ways = [f"INPUT_COLUMN={fit.columns.input} with TARGET_COLUMN={fit.columns.target}" for fit in fits]
        ways += [f"MESSAGES_COLUMN={chat.columns.messages}"] if chat else []
        raise DataError(f"{table.source}: the columns can be read in {len(ways)} ways: {', or '.join(ways)}. Set what you mean.")
    if fits and columns.template != AUTO and _means_column_input(columns.template, found):
        return replace(fits[0], columns=replace(fits[0].columns, input=INPUT))
    if fits or chat:
        return fits[0] if fits else chat  # type: ignore[return-value]
    if MESSAGES in found and columns.messages == AUTO:  # whose first cells are no chats: the rows will be told
        return Shape("chats", replace(columns, messages=MESSAGES), found, (MESSAGES, "tools"))
    raise DataError(f"{table.source}: {_advice(table, columns)}")


def no_column(table: Table, column: str, variable: str) -> DataError:
    """The error that `variable` names a column that `table` does not have."""
    advice = (
        "Name only columns that exist in PROMPT_TEMPLATE" if variable == "PROMPT_TEMPLATE" else f"Set {variable} to one of them"
    )
    if variable != "PROMPT_TEMPLATE" and is_data(table):
        advice = "The first row looks like data: put a row with the names of the columns above it"
    if "conversations" in table.rows.column_names:
        advice += ", or MESSAGES_COLUMN=conversations for chats"
    return DataError(f'{table.source}: no column "{column}"; found {quoted(table.rows.column_names)}. {advice}{table.or_sheet()}.')


def _means_column_input(template: str, found: Sequence[str]) -> bool:
    """Whether {input} in `template` is the column that is called so."""
    return INPUT in found and INPUT in Template(template, INPUT).columns


def has_field(table: Table, name: str) -> bool:
    """Whether `name` is a column, or a field inside one."""
    column, _, inside = name.partition(".")
    found = table.rows.column_names
    return name in found or bool(inside and column in found and any(_look(table, column, inside)))


def _look(table: Table, column: str, inside: str) -> list:
    """What the first cells have there."""
    return [field(cell, inside.split(".")) is not None for cell in first_cells(table, column, 50)]


def _fits(table: Table, columns: ColumnMapping, names: Mapping[str, str]) -> list[Shape]:
    """The shapes that the names of the columns allow, without those that leave out what another takes."""
    fits: dict[frozenset[str], Shape] = {frozenset(["translation"]): shape for shape in _translation(table, columns)}
    for usual in USUAL:
        inputs = usual.inputs_in(names)
        targets = [columns.target] if columns.target != AUTO else [names.get(name, name) for name in usual.targets]
        target = next((name for name in targets if has_field(table, name)), None)
        if inputs and target and target not in inputs and columns.input in (AUTO, names[inputs[0]]):
            main = names[usual.inputs[0]]
            shape = Shape(usual.kind, _filled(columns, main, target, usual.template(names)), tuple(table.rows.column_names))
            fits.setdefault(frozenset([*inputs, target]), shape)
    return [shape for taken, shape in fits.items() if not any(taken < other for other in fits)]


def _translation(table: Table, columns: ColumnMapping) -> list[Shape]:
    """The shape of {"translation": {"en": ..., "de": ...}}. Raises DataError where it is not known which is which."""
    if "translation" not in table.rows.column_names or AUTO not in (columns.input, columns.target):
        return []
    cell = next((cell for cell in first_cells(table, "translation", 50) if isinstance(cell, dict)), {})
    keys = [_language(keys_of, cell) for keys_of in columns.languages]
    source, target = keys if len(cell) > 1 else (None, None)
    if len(cell) > 1 and (source is None or target is None):
        pairs = [f"translation.{key}" for key in cell][:2]
        raise DataError(
            f"{table.source}: which language is the input? Set INPUT_COLUMN={pairs[0]} and TARGET_COLUMN={pairs[1]}, or the other "
            "way round."
        )
    filled = _filled(columns, f"translation.{source}", f"translation.{target}", TEMPLATE)
    return [Shape("translation", filled, tuple(table.rows.column_names))] if source else []


def _language(code: str | None, cell: Mapping) -> str | None:
    """The key of `cell` that a language code such as de_DE or deu_Latn means."""
    return next((key for key in cell if code and code.lower().startswith(key.lower())), None)


def _of_template(table: Table, columns: ColumnMapping, names: Mapping[str, str]) -> list[Shape]:
    """The shape of a table whose inputs only PROMPT_TEMPLATE names; none where its answers are not known."""
    if columns.template == AUTO:
        return []
    used = [names.get(name, name) for name in Template(columns.template, INPUT).columns]
    known = {name for usual in USUAL for name in usual.targets} | {TARGET}
    targets = [columns.target] if columns.target != AUTO else [names[name] for name in names if name in known]
    left = [name for name in targets if name not in used]
    if len(left) != 1 or not used or not all(has_field(table, name) for name in used):
        return []
    filled = _filled(columns, INPUT if INPUT in used else used[0], left[0], columns.template)
    return [Shape("as PROMPT_TEMPLATE says", filled, tuple(table.rows.column_names))]


def _target(table: Table, columns: ColumnMapping, names: Mapping[str, str]) -> str:
    """The column of the right answers where that of the inputs is set."""
    if columns.target != AUTO:
        return columns.target
    if not has_field(table, columns.input):
        raise no_column(table, columns.input, "INPUT_COLUMN")
    found = {names[TARGET]} if TARGET in names else {shape.columns.target for shape in _fits(table, columns, names)}
    if len(found) == 1:
        return found.pop()
    raise DataError(f"{table.source}: {_advice(table, columns)}")


def _advice(table: Table, columns: ColumnMapping) -> str:
    found = f"found {quoted(table.rows.column_names)}"
    is_plain = len(table.rows.column_names) == 1 or set(table.rows.column_names) - ABOUT_TEXT == {"text"}
    if is_plain and not table.other_sheets:
        return (
            f"there are texts and no right answers to them; {found}. The job learns answers to inputs and measures them; it does "
            "not go on with pre-training on plain text. Make it a table of two columns, such as prompt and completion, the second "
            "with what is to be written."
        )
    if is_data(table) and not table.other_sheets:
        return f"the first row looks like data: {found}. Put a row with the names of the columns above it."
    missing = [name for name, value in (("INPUT_COLUMN", columns.input), ("TARGET_COLUMN", columns.target)) if value == AUTO]
    return f"no usual pair of input and right answer; {found}. Set {' and '.join(missing)}{_inside(table)}{table.or_sheet()}."


def _inside(table: Table) -> str:
    """How to name a field inside one of the columns, where one holds objects."""
    for name in table.rows.column_names:
        for cell in first_cells(table, name, 1):
            if isinstance(cell, dict) and cell:
                return f" (a field inside a column is named with a dot, such as {name}.{next(iter(cell))})"
    return ""


def _filled(columns: ColumnMapping, source: str, target: str, template: str) -> ColumnMapping:
    """`columns` with these in place of each AUTO."""
    return replace(
        columns, input=_or(columns.input, source), target=_or(columns.target, target), template=_or(columns.template, template)
    )


def _or(value: str, recognised: str) -> str:
    return recognised if value == AUTO else value


def _by_usual_spelling(table: Table) -> dict[str, str]:
    """The columns by their names in small letters, with _ for spaces; as they are spelt, where two would be the same."""
    spelt: dict[str, list[str]] = {}
    for name in table.rows.column_names:
        spelt.setdefault(re.sub(r"[\s\-_]+", "_", name.strip().lower()), []).append(name)
    return {usual: usual if usual in names else names[0] for usual, names in spelt.items() if usual in names or len(names) == 1}
