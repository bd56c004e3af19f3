"""What was shown of each family, as docs/models.md: `make test-zoo` writes it once all tests have passed."""

from collections.abc import Mapping
from pathlib import Path

from tests.zoo import causal_before_llama, causal_models, encoder_decoders, mixtures_and_states
from tests.zoo.exceptions import CANNOT
from tests.zoo.families import FAMILIES, builders, published
from tests.zoo.runs import Run

PATH = Path(__file__).parents[2] / "docs" / "models.md"
SECTIONS = {
    "Encoder-decoders": encoder_decoders,
    "Causal models": causal_models,
    "Causal models with experts, or with layers that carry a state": mixtures_and_states,
    "Causal models from before Llama": causal_before_llama,
}
INTRODUCTION = f"""\
# Models

<!-- written by `make test-zoo` from what its tests saw: change tests/zoo/page.py, and the docstrings of the builders beside it -->

What transformers can load as an encoder-decoder or as a causal model can be trained. A tiny model of each of these {len(FAMILIES)}
families, built in `tests/zoo`, goes through the whole job, and `make test-zoo` holds of each:

- the loss falls;
- a row gets the same answer alone as among 16 rows of other lengths, from the base model and from the adapter;
- loss and gradient of a batch are what plain transformers computes row by row;
- a fresh process, with peft and transformers alone, gives the same answers and losses;
- the merged model answers as the adapter does;
- a run that was stopped and started again ends with the same adapter, bit for bit;
- the program on the model card prints the answer that the job gave, and stops where it stopped;
- the default TARGET_MODULES adapt attention wherever there is some, and no router, no vision tower, no convolution.

What a family cannot do stands in its row, with the reason that the job gives. A published model belongs to the family of its
`model_type` in config.json; the tables name the best known ones.

"Packed rows" stand one after another, without padding; where a family's attention is not exact so, its rows are padded, which is
slower and changes nothing else.
"""
HEAD = "| family | published models | trained on | adapted by default | merged |\n|---|---|---|---|---|\n"

Row = Mapping[str, str]
"""The cells of a family behind its name and its models."""


def row_of(run: Run) -> Row:
    """What a finished run shows of its family."""
    refused = CANNOT.get(run.family, {}).get("merge")
    return {"trained on": _layout(run), "adapted": ", ".join(sorted({name.rsplit(".", 1)[-1] for name in run.adapted()})),
            "merged": f"no: {refused}" if refused else "yes"}  # fmt: skip


def row_of_refused(reason: str) -> Row:
    """What there is to say of a family that the job refuses to train."""
    return {"trained on": f"refused: {reason}", "adapted": "", "merged": ""}


def _layout(run: Run) -> str:
    """How the rows of a batch stood beside each other, and why so."""
    if run.read("plan.json")["padding_free"]:
        return "packed rows"
    return f"padded rows: {run.why_padded().partition(' (loss')[0]}"


def page(rows: Mapping[str, Row]) -> str:
    """The text of docs/models.md."""
    return INTRODUCTION + "".join(_section(title, list(builders(module)), rows) for title, module in SECTIONS.items())


def _section(title: str, families: list[str], rows: Mapping[str, Row]) -> str:
    lines = [f"| `{name}` | {published(name)} | {' | '.join(rows[name].values())} |\n" for name in families]
    return f"\n## {title}\n\n{HEAD}{''.join(lines)}"
