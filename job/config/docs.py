"""What `make docs` writes: `env.example` and `docs/variables.md` from the settings, the list of files in `docs/architecture.md`."""

import ast
import inspect
import io
import tokenize
from pathlib import Path

from job.config.identity import format_value
from job.config.settings import Settings

ENV_HEAD = """\
# Every variable of the job with its default. Copy this file to .env, remove the # of a line and change its value.
# An empty value means the default. A misspelt name is an error.
"""
PAGE_HEAD = """\
# Variables

<!-- written by `make docs` from job/config/settings.py: change it there -->

Every setting of the job is a variable, in the environment or in `.env` ([env.example](../env.example) lists all of them, ready to
copy); where both set one, the environment wins. An empty value means the default. A name in `.env` that is not in this list is an
error, and so is a name in the environment that looks like a misspelt one; the message says which name was meant. Values are checked
before anything else starts, in a fraction of a second.
"""
JOB = Path(__file__).parents[1]
FOLDERS = (
    "commands", "serving", "pipeline", "config", "preflight", "training", "evaluation", "plan", "publish", "model", "data",
    "tables", "system", "demo", "",
)  # fmt: skip
"""From the top down."""
FILES_START, FILES_END = "<!-- files: written by make docs -->\n", "\n<!-- end of files -->\n"
INDENT = 4
"""Column at which the fields of the class, and the headings above them, begin."""


def groups() -> dict[str, list[str]]:
    """Heading -> the fields below it, in the order of settings.py, where a heading is a comment on a line of its own.

    Raises KeyError for a field above the first heading.
    """
    found: dict[str, list[str]] = {}
    heading = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(Settings)).readline):
        if token.start[1] != INDENT:
            continue
        if token.type == tokenize.COMMENT:
            heading = token.string.removeprefix("# ")
            found.setdefault(heading, [])
        elif token.type == tokenize.NAME and token.string in Settings.model_fields:
            found[heading].append(token.string)
    return found


def env_example() -> str:
    """The text of `env.example`: for each group its heading, then each variable's help and `# NAME=default`."""
    return ENV_HEAD + "".join(f"\n## {heading}\n{''.join(map(_env_lines, names))}" for heading, names in groups().items())


def variables_page() -> str:
    """The text of `docs/variables.md`: for each group its heading and a table."""
    head = "| variable | default | |\n|---|---|---|\n"
    return PAGE_HEAD + "".join(f"\n## {heading}\n\n{head}{''.join(map(_table_row, names))}" for heading, names in groups().items())


def _env_lines(name: str) -> str:
    return f"\n# {Settings.model_fields[name].description}\n# {name.upper()}={default_of(name)}\n"


def _table_row(name: str) -> str:
    default = default_of(name)
    return f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {Settings.model_fields[name].description} |\n"


def default_of(name: str) -> str:
    """The default as a person would set it; "" where there is none."""
    return format_value(Settings.model_fields[name].default)


def with_list_of_files(page: str) -> str:
    """`page` with the list of the files of `job/` between its two markers written from their docstrings."""
    before, _, rest = page.partition(FILES_START)
    _, _, after = rest.partition(FILES_END)
    return f"{before}{FILES_START}{''.join(map(_folder, FOLDERS))}{FILES_END}{after}"


def _folder(folder: str) -> str:
    files = "".join(map(_file_row, sorted((JOB / folder).glob("[a-z]*.py"))))
    name = f"job/{folder}/" if folder else "job/"
    return f"\n### {name}\n\n| | |\n|---|---|\n{files}"


def _file_row(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return f"| `{path.name}` | {docstring.partition(chr(10))[0]} |\n"


if __name__ == "__main__":
    Path("env.example").write_text(env_example())
    Path("docs/variables.md").write_text(variables_page())
    architecture = Path("docs/architecture.md")
    architecture.write_text(with_list_of_files(architecture.read_text()))
