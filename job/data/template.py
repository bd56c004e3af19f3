"""A prompt template: `{instruction}: {input}`, or Jinja where parts of it depend on the row."""

import re
import string
from collections.abc import Mapping

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from job.errors import SettingsError

JINJA_MARKS = re.compile(r"{%|{{-?\s+[^{}]*}}|{{-?\s*\w[^{}]*\s-?}}")
"""`{% if ... %}` and `{{ name }}`, with spaces, as Jinja is written; `{{name}}` is Jinja where no {name} is beside it."""
WHOLE_ROW = "row"
"""What a Jinja template calls all the cells, by the names of their columns: row["first name"]."""


class Template:
    """A text with the cells of a row put in. `{input}` is the input column, whatever its name; Jinja takes columns by their own."""

    def __init__(self, text: str, input_column: str) -> None:
        """Raises SettingsError if `text` is not a template or does not use any column."""
        self.text, self.input_column = text, input_column
        self.is_jinja = bool(JINJA_MARKS.search(text)) or ("{{" in text and not _names(text))
        try:
            self._filler: _Simple | _Jinja = _Jinja(text) if self.is_jinja else _Simple(text, input_column)
        except (ValueError, TemplateError) as error:
            hint = "See docs/data.md" if self.is_jinja else "Write {{ and }} for braces"
            raise SettingsError(f'PROMPT_TEMPLATE="{text}": {str(error).splitlines()[0]}. {hint}.') from None
        self.columns = self._filler.columns
        self.reads_whole_row = isinstance(self._filler, _Jinja) and self._filler.reads_whole_row
        if self.is_jinja:
            self.check_names(["input"])
        if not self.columns and not self.reads_whole_row:
            raise SettingsError(f'PROMPT_TEMPLATE="{text}": it names no column. Put {{input}} where the input belongs.')

    def check_names(self, found: list[str]) -> None:
        """Raises SettingsError where a name may be meant in two ways in a table with the columns `found`."""
        if isinstance(self._filler, _Jinja):
            name = next((name for name in self._filler.braced if name in found), None)
            if name is not None:
                raise SettingsError(
                    f"PROMPT_TEMPLATE: {{{name}}} beside Jinja stays as it is. Write {{{{ {name} }}}} for that column."
                )
        elif "{input}" in self.text and "input" in found and self.input_column != "input":
            raise SettingsError(
                f'PROMPT_TEMPLATE: {{input}} may be the column "input" or INPUT_COLUMN={self.input_column}. '
                f"Write {{{self.input_column}}} for the latter, or set INPUT_COLUMN=input."
            )

    def fill(self, row: Mapping[str, object]) -> str:
        """The prompt of `row`; every column of `self.columns` must be in it. SettingsError where Jinja fails on it."""
        return self._filler.fill(row)


class _Simple:
    """{column} and nothing else; {{ and }} stand for braces."""

    def __init__(self, text: str, input_column: str) -> None:
        parts = []
        for literal, name, specification, conversion in string.Formatter().parse(text):
            if specification or conversion:
                raise ValueError(f"{{{name}}} has a format, and cells are put in as they are: delete what follows the name")
            parts.append((literal, input_column if name == "input" else name))
        self._parts = parts
        self.columns = tuple(dict.fromkeys(name for _, name in parts if name is not None))

    def fill(self, row: Mapping[str, object]) -> str:
        return "".join(literal + ("" if name is None or row[name] is None else str(row[name])) for literal, name in self._parts)


class _Jinja:
    """Jinja2, sandboxed: a name that is not there is an error, never an empty text."""

    def __init__(self, text: str) -> None:
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        tree = environment.parse(text)
        self._template = environment.from_string(text)
        names = find_undeclared_variables(tree) - set(environment.globals)
        self.reads_whole_row = WHOLE_ROW in names
        keys = (node.arg for node in tree.find_all(nodes.Getitem) if getattr(node.node, "name", None) == WHOLE_ROW)
        named = {key.value for key in keys if isinstance(key, nodes.Const)} if self.reads_whole_row else set()
        self.columns = tuple(sorted((names - {WHOLE_ROW}) | named, key=text.find))
        literals = "".join(part.data for part in tree.find_all(nodes.TemplateData))
        self.braced = re.findall(r"{([^{}]+)}", literals)

    def fill(self, row: Mapping[str, object]) -> str:
        cells = {name: "" if cell is None else cell for name, cell in row.items()}
        try:
            return self._template.render({WHOLE_ROW: cells} | cells)
        except Exception as error:  # whatever an expression in a template raises: type errors, division, the sandbox's
            raise SettingsError(
                f"PROMPT_TEMPLATE: {type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}. Fix it."
            ) from None


def _names(text: str) -> list[str]:
    """The columns that `text` names in the simple form."""
    try:
        return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:
        return []
