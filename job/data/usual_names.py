"""The names that columns usually have in data of a kind, and the prompts that are usual for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from job.data.column_mapping import TEMPLATE


@dataclass(frozen=True)
class Usual:
    """Names that data of a kind has: all of `inputs` and one of `targets`; `optional` ones may be there."""

    kind: str
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    optional: tuple[str, ...] = ()
    more_than_this: tuple[str, ...] = ()
    """Columns without which such an input would say too little: with one of them the table is of another kind."""

    def inputs_in(self, names: Mapping[str, str]) -> list[str]:
        """The columns of `names` that the prompt is made of; none if one is missing."""
        whole = set(self.inputs) <= set(names) and not set(self.more_than_this) & set(names)
        return [name for name in (*self.inputs, *self.optional) if name in names] if whole else []

    def template(self, names: Mapping[str, str]) -> str:
        """The prompt. names: usual name -> as the table spells it."""
        there = self.inputs_in(names)
        if len(there) == 1:
            return "{input}" if there == ["prompt"] else TEMPLATE
        spelt = {name: name if names[name] == name else f'row["{names[name]}"]' for name in there}
        if not self.optional:
            return " ".join(f"{name}: {{{{ {spelt[name]} }}}}" for name in there)
        return "".join(re.sub(rf"\b{name}\b", spelt[name], part) for name, part in OPTIONAL_PARTS.items() if name in there)


OPTIONAL_PARTS = {
    "system": "{% if system %}{{ system }} {% endif %}",
    "system_prompt": "{% if system_prompt %}{{ system_prompt }} {% endif %}",
    "history": "{% for turn in history or [] %}{{ turn[0] }} {{ turn[1] }} {% endfor %}",
    "instruction": "{{ instruction }}",
    "question": "{{ question }}",
    "input": "{% if input %} Input: {{ input }}{% endif %}",
    "context": "{% if context %} Context: {{ context }}{% endif %}",
}
"""The prompt of instructions: what is empty leaves no trace. Without line breaks, which the tokenizers of T5 lack."""
ANSWERS = ("answers.text", "answers", "answer")
CHOICES = ("choices", "options")
LABELS = ("label", "labels")

USUAL = (
    Usual("Alpaca", ("instruction",), ("output",), ("system", "history", "input")),
    Usual("Dolly", ("instruction",), ("response",), ("context",)),
    Usual("OpenOrca", ("question",), ("response",), ("system_prompt",)),
    Usual("SQuAD", ("question", "context"), ANSWERS, (), CHOICES),
    Usual("question about a passage", ("question", "passage"), ("answer",)),
    Usual("question about a sentence", ("question", "sentence"), LABELS),
    Usual("premise and hypothesis", ("premise", "hypothesis"), LABELS),
    Usual("pairs of sentences", ("sentence1", "sentence2"), LABELS),
    Usual("pairs of questions", ("question1", "question2"), LABELS),
    Usual("title and content", ("title", "content"), LABELS),
    Usual("input and output", ("input",), ("output",), (), ("instruction",)),
    Usual("question and answer", ("question",), ANSWERS, (), CHOICES),
    Usual("question and answer", ("query",), ("answer", "response")),
    Usual("text and label", ("text",), (*LABELS, "category", "sentiment", "intent")),
    Usual("text and label", ("sentence",), LABELS),
    Usual("text and summary", ("text",), ("summary",)),
    Usual("text and target", ("text",), ("target",)),
    Usual("text and code", ("text",), ("code",)),
    Usual("prompt and code", ("prompt",), ("code",)),
    Usual("dialogue and summary", ("dialogue",), ("summary",)),
    Usual("document and summary", ("document",), ("summary",)),
    Usual("article and highlights", ("article",), ("highlights",)),
    Usual("article and summary", ("article",), ("summary",)),
    Usual("prompt and completion", ("prompt",), ("completion",)),
    Usual("prompt and response", ("prompt",), ("response",)),
    Usual("prompt and chosen answer", ("prompt",), ("chosen",)),
    Usual("problem and solution", ("problem",), ("solution",)),
    Usual("source and target", ("source",), ("target",)),
    Usual("source and target", ("src",), ("tgt",)),
    Usual("input and target", ("input",), ("target",)),
    Usual("input and label", ("input",), LABELS),
    Usual("inputs and targets", ("inputs",), ("targets",)),
)
