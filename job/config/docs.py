"""`env.example` and the README's table of variables, both written from the settings: `make docs`."""

from pathlib import Path

from job.config.settings import Settings

HEAD = """\
# Every variable of the job with its default. Copy this file to .env, remove the # of a line and change its value.
# An empty value means the default. A misspelt name is an error.
"""
TABLE_STARTS, TABLE_ENDS = "<!-- variables: written by make docs -->\n", "<!-- end of variables -->\n"


def env_example() -> str:
    """The text of `env.example`: each variable's help, then `# NAME=default`."""
    return HEAD + "".join(f"\n# {text}\n# {name}={default}\n" for name, default, text in _variables())


def with_table(readme: str) -> str:
    """`readme` with the table of variables between its two markers written anew."""
    rows = "".join(f"| `{name}` | {f'`{default}`' if default else ''} | {text} |\n" for name, default, text in _variables())
    before, _, rest = readme.partition(TABLE_STARTS)
    _, _, after = rest.partition(TABLE_ENDS)
    return f"{before}{TABLE_STARTS}| variable | default | |\n|---|---|---|\n{rows}{TABLE_ENDS}{after}"


def _variables() -> list[tuple[str, str, str]]:
    """Name, default and help of each variable, in the order of the settings."""
    return [(name.upper(), _text(field.default), field.description) for name, field in Settings.model_fields.items()]


def _text(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    Path("env.example").write_text(env_example())
    readme = Path("README.md")
    readme.write_text(with_table(readme.read_text()))
