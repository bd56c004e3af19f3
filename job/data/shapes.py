"""Which columns of a table are inputs and right answers: as a person says, else by the names that data usually has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from job.data.chat_shapes import find_chats
from job.data.column_mapping import AUTO, INPUT, MESSAGES, TARGET, TEMPLATE, ColumnMapping
from job.data.fields import field, parsed
from job.data.file_rows import quoted
from job.data.read import Table
from job.data.template import Template
from job.data.usual_names import USUAL
from job.errors import DataError


@dataclass(frozen=True)
class Shape:
    """How a table is read."""

    name: str
    columns: ColumnMapping
    is_chat: bool = False

    def describe(self, table: Table) -> str:
        """One line for a person: what was recognised, which columns are used, and which nobody reads."""
        used = [self.columns.messages, "tools"] if self.is_chat else _roots([*self._prompt(), self.columns.target], table)
        unused = [name for name in table.rows.column_names if name not in used]
        found = f"chats in {quoted([self.columns.messages])}" if self.is_chat else self._as_text()
        return f"{self.name}: {found}; " + (f"not used: {quoted(unused)}" if unused else "every column is used")

    def _prompt(self) -> Sequence[str]:
        return Template(self.columns.template, self.columns.input).columns

    def _as_text(self) -> str:
        return f"inputs from {quoted(self._prompt())}, right answers from {quoted([self.columns.target])}"


def recognise(table: Table, columns: ColumnMapping) -> Shape:
    """How `table` is read: what `columns` name, the rest by the usual names. Raises DataError where none or several fit."""
    names, chats = _by_usual_spelling(table), find_chats(table, columns.messages)
    chat = chats and Shape(chats.form, replace(columns, messages=chats.column), is_chat=True)
    if columns.input != AUTO and (columns.target != AUTO or not chat):
        given = replace(columns, target=_target(table, columns, names), template=_or(columns.template, TEMPLATE))
        return chat if chat and not has_field(table, columns.input) else Shape("as set", given)
    if chat and columns.messages != AUTO:
        return chat
    if columns.input == AUTO and INPUT in names and columns.target in (AUTO, TARGET) and TARGET in names:
        return Shape("input and right answer", _filled(columns, names[INPUT], names[TARGET], TEMPLATE))
    fits = _fits(table, columns, names)
    if len(fits) + bool(chat) > 1:
        ways = [f"INPUT_COLUMN={fit.columns.input} with TARGET_COLUMN={fit.columns.target}" for fit in fits]
        ways += [f"MESSAGES_COLUMN={chat.columns.messages}"] if chat else []
        raise DataError(f"{table.source}: the columns can be read in {len(ways)} ways: {', or '.join(ways)}. Set what you mean.")
    if fits or chat:
        return fits[0] if fits else chat  # type: ignore[return-value]
    if columns.template != AUTO and (found := _of_template(table, columns, names)):
        return found
    if columns.messages in (AUTO, MESSAGES) and MESSAGES in table.rows.column_names:
        return Shape("chats", replace(columns, messages=MESSAGES), is_chat=True)
    raise DataError(f"{table.source}: {_advice(table, columns)}")


def has_field(table: Table, name: str) -> bool:
    """Whether `name` is a column, or a field inside one."""
    column, _, inside = name.partition(".")
    found = table.rows.column_names
    return name in found or bool(inside and column in found and any(_look(table, column, inside)))


def _look(table: Table, column: str, inside: str) -> list:
    """What the first cells have there."""
    return [field(cell, inside.split(".")) is not None for cell in first_cells(table, column, 50)]


def first_cells(table: Table, column: str, count: int) -> list:
    """The first cells of a column, parsed where they are JSON text."""
    return [parsed(cell) for cell in table.rows.select_columns([column])[:count][column]]


def _fits(table: Table, columns: ColumnMapping, names: Mapping[str, str]) -> list[Shape]:
    """The shapes that the names of the columns allow, without those that leave out what another takes."""
    fits: dict[frozenset[str], Shape] = {frozenset(["translation"]): shape for shape in _translation(table, columns)}
    for usual in USUAL:
        inputs = usual.inputs_in(names)
        targets = [columns.target] if columns.target != AUTO else [names.get(name, name) for name in usual.targets]
        target = next((name for name in targets if has_field(table, name)), None)
        if inputs and target and target not in inputs and columns.input in (AUTO, names[inputs[0]]):
            main = names[usual.inputs[0]]
            shape = Shape(usual.kind, _filled(columns, main, target, usual.template(names)))
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
    return [Shape("translation", _filled(columns, f"translation.{source}", f"translation.{target}", TEMPLATE))] if source else []


def _language(code: str | None, cell: Mapping) -> str | None:
    """The key of `cell` that a language code such as de_DE or deu_Latn means."""
    return next((key for key in cell if code and code.lower().startswith(key.lower())), None)


def _of_template(table: Table, columns: ColumnMapping, names: Mapping[str, str]) -> Shape | None:
    """The shape of a table whose inputs only PROMPT_TEMPLATE names; None where its answers are not known."""
    used = [names.get(name, name) for name in Template(columns.template, INPUT).columns]
    known = {name for usual in USUAL for name in usual.targets} | {TARGET}
    targets = [columns.target] if columns.target != AUTO else [names[name] for name in names if name in known]
    left = [name for name in targets if name not in used]
    source = INPUT if INPUT in used else used[0] if used else ""
    fits = len(left) == 1 and all(has_field(table, name) for name in used)
    return Shape("as PROMPT_TEMPLATE says", _filled(columns, source, left[0], columns.template)) if fits else None


def _target(table: Table, columns: ColumnMapping, names: Mapping[str, str]) -> str:
    """The column of the right answers where that of the inputs is set."""
    if columns.target != AUTO or TARGET in names:
        return names[TARGET] if columns.target == AUTO else columns.target
    found = {shape.columns.target for shape in _fits(table, columns, names)}
    if len(found) == 1:
        return found.pop()
    raise DataError(f"{table.source}: {_advice(table, columns)}")


def _advice(table: Table, columns: ColumnMapping) -> str:
    found = f"found {quoted(table.rows.column_names)}"
    if table.rows.column_names == ["text"]:
        return (
            'there is only a column "text". The job learns right answers to inputs and measures them; it does not go on with '
            "pre-training on plain text. Split it into columns such as prompt and completion."
        )
    missing = [name for name, value in (("INPUT_COLUMN", columns.input), ("TARGET_COLUMN", columns.target)) if value == AUTO]
    return f"no usual pair of input and right answer; {found}. Set {' and '.join(missing)}."


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


def _roots(names: Sequence[str], table: Table) -> list[str]:
    """The columns that these columns or fields lie in."""
    return [name if name in table.rows.column_names else name.partition(".")[0] for name in names]
