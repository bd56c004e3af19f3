"""What to take from a table, as a person set it or as it was recognised."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from job.tables.column_names import find_name

AUTO = "auto"
INPUT, TARGET, MESSAGES, TEMPLATE = "input", "output_ground_truth", "messages", "Input: {input}"
"""What `auto` meant before there were shapes, and means where a table has these names."""


@dataclass(frozen=True)
class ColumnMapping:
    """What to take from a table; AUTO where that is to be recognised."""

    input: str
    target: str
    messages: str
    template: str
    preprocess: str | None = None
    """A function that rewrites a row, as file.py:function."""
    empty_rows: str = "error"
    """EMPTY_ROWS: what becomes of rows without an input or an answer."""
    languages: tuple[str | None, str | None] = (None, None)
    """SOURCE_LANGUAGE and TARGET_LANGUAGE."""

    def without_auto(self) -> "ColumnMapping":
        """The same with what AUTO stands for where nothing was recognised."""
        usual = {"input": INPUT, "target": TARGET, "messages": MESSAGES, "template": TEMPLATE}
        return replace(self, **{name: value for name, value in usual.items() if getattr(self, name) == AUTO})  # type: ignore[arg-type]

    def identity(self) -> dict[str, str | None]:
        """What prepared rows depend on."""
        names = asdict(self.without_auto())
        del names["languages"]  # the names that they lead to are in
        if self.empty_rows == "error":  # beside the rest: what was prepared before there was such a setting keeps its fingerprint
            del names["empty_rows"]
        return names


def as_spelt(columns: ColumnMapping, names: Sequence[str]) -> ColumnMapping:
    """`columns` as the table spells them, whose columns are called `names`."""

    def spelt(wanted: str) -> str:
        return wanted if wanted == AUTO else find_name(names, wanted) or wanted

    return replace(columns, input=spelt(columns.input), target=spelt(columns.target), messages=spelt(columns.messages))
