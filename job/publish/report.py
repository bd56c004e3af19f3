"""`report.html`: one file that opens offline, without a script."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from job.system.durable import write_text

TEMPLATE = "report.html.j2"


def write_report(path: Path, facts: Mapping[str, object]) -> None:
    """Writes the page. facts: what `report.html.j2` names."""
    write_text(path, render(TEMPLATE, facts))


def render(template: str, facts: Mapping[str, object]) -> str:
    """A page made of a template beside this module; texts are escaped, SVG comes as Markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(facts)


def marked(output: str, truth: str) -> Markup:
    """`output`, escaped, with <ins> around words that `truth` lacks and <del> around those of it that are missing."""
    shape = {"same": "{}", "del": "<del>{}</del>", "ins": "<ins>{}</ins>"}
    return Markup("").join(Markup(shape[kind]).format(text) for kind, text in differences(output, truth))


def differences(output: str, truth: str) -> list[tuple[str, str]]:
    """`output` in pieces: "same", "ins" for words that `truth` lacks, and "del" for those of it that are missing."""
    wanted, found = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (truth, output))
    pieces: list[tuple[str, str]] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, wanted, found, autojunk=False).get_opcodes():
        missing, there = ("".join(words) for words in (wanted[i:j], found[k:m]))
        pieces += [("same", there)] if kind == "equal" else [("del", missing), ("ins", there)]
    return [piece for piece in pieces if piece[1]]


def shell_command(variables: Mapping[str, str], command: str = "python entrypoint.py run") -> str:
    """A line for a shell that runs the job with these variables."""
    return " ".join([*(f"{name}={_quoted(value)}" for name, value in variables.items()), command])


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[\w./:,-]+", value) else "'" + value.replace("'", "'\"'\"'") + "'"


def plot(svg: str, caption: str) -> dict[str, object]:
    """A figure of the page."""
    return {"svg": Markup(svg), "caption": caption}


def numbered(entries: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """(step, value) of each entry of a training's history that has `name`."""
    return [(entry["step"], entry[name]) for entry in entries if name in entry]
