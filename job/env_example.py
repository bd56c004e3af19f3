"""`env.example`, written from the settings: `python -m job.env_example > env.example`."""

from job.settings import Settings

HEAD = """\
# Every variable of the job with its default. Copy this file to .env, remove the # of a line and change its value.
# An empty value means the default. A misspelt name is an error.
"""


def render() -> str:
    """The text of `env.example`: each variable's help, then `# NAME=default`."""
    return HEAD + "".join(
        f"\n# {field.description}\n# {name.upper()}={_text(field.default)}\n" for name, field in Settings.model_fields.items()
    )


def _text(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    print(render(), end="")
