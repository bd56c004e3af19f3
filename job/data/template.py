"""A prompt template such as `{instruction}: {input}`."""

import string
from collections.abc import Mapping

from job.errors import SettingsError


class Template:
    """A text with {column} in it; {{ and }} stand for braces. `{input}` is the input column, whatever its name."""

    def __init__(self, text: str, input_column: str) -> None:
        """Raises SettingsError if `text` is not a template or does not use any column."""
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise SettingsError(f'PROMPT_TEMPLATE="{text}": {error}. Write {{{{ and }}}} for braces.') from None
        self._parts = [(literal, self._column(field, input_column)) for literal, field, _, _ in parts]
        self.columns = tuple(dict.fromkeys(column for _, column in self._parts if column is not None))
        self.text = text
        if not self.columns:
            raise SettingsError(f'PROMPT_TEMPLATE="{text}": it names no column. Put {{input}} where the input belongs.')

    @staticmethod
    def _column(field: str | None, input_column: str) -> str | None:
        return input_column if field == "input" else field

    def fill(self, row: Mapping[str, object]) -> str:
        """The prompt of `row`; every column of `self.columns` must be in it."""
        return "".join(literal + ("" if column is None else str(row[column])) for literal, column in self._parts)
