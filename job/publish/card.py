"""The model card: the adapter's README.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from job.errors import one_line


class Score(Protocol):
    """One metric's means, and the difference adapter - base with its 95 % interval."""

    @property
    def metric(self) -> str: ...
    @property
    def base(self) -> float: ...
    @property
    def adapter(self) -> float: ...
    @property
    def baseline(self) -> float | None: ...
    @property
    def difference(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


TEXT = """\
---
{metadata}
---

# {title}

A LoRA adapter for {base_link}, trained by lora-job on {data} ({train_rows} rows).

**{verdict}**

Held-out rows, same decoding; intervals by paired bootstrap.
Loaded again by a fresh process with peft and transformers alone: {proof}.

| metric | base | adapter | baseline | adapter - base | 95 % interval |
|---|---|---|---|---|---|
{scores}

## Use

```python
from peft import {auto_class}
from transformers import AutoTokenizer, GenerationConfig

folder = "path/to/this/folder"
model = {auto_class}.from_pretrained(folder)
model.get_base_model().generation_config = GenerationConfig.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = {inputs}
answer = model.generate(**inputs)[0]
print(tokenizer.decode({answer}, skip_special_tokens={skip_special_tokens}))
```

Prompt template: {template}
{tokenizer}
## Limits

Measured on rows like those it was trained on; other inputs may do worse than the base model. The base model's limits and
licence{licence} hold for the adapter too.

## Settings

{settings}

## Versions

{versions}
"""


WITHOUT_LANGUAGE = "[token for token in answer[1:] if token != model.generation_config.forced_bos_token_id]"
"""Of M2M100, whose languages are text to its tokenizer."""


def write_card(path: Path, facts: Mapping[str, Any], scores: Sequence[Score], settings: Mapping[str, str]) -> None:
    """Writes the card to `path`.

    facts: title, base, data, train_rows, verdict, seq2seq, template, tokenizer (what was added to it), keeps_special_tokens,
    begins_with_language, proof, versions, licence (the base's; None where it is not known);
    for an adapter that was trained on chats `chat`, one that waits for an answer, and its `tools`.
    settings: variables that differ from their default.
    """
    seq2seq, base = facts["seq2seq"], one_line(str(facts["base"]))
    filled = dict(facts) | {
        "base_link": f"[{base}](https://huggingface.co/{base})" if _is_on_hub(base) else f"`{base}`",
        "metadata": _metadata(facts, scores).to_yaml(),
        "scores": "\n".join(_row(score) for score in scores),
        "licence": f" ({facts['licence']})" if facts["licence"] else "",
        "auto_class": "AutoPeftModelForSeq2SeqLM" if seq2seq else "AutoPeftModelForCausalLM",
        "answer": WITHOUT_LANGUAGE if facts["begins_with_language"] else "answer",
        "skip_special_tokens": not facts["keeps_special_tokens"],
        "inputs": _inputs(facts),
        "tokenizer": "\n" + str(facts["tokenizer"]) + "\n" if facts["tokenizer"] else "",
        "template": "the chat template of the base model" if facts.get("chat") else f"`{one_line(str(facts['template']))}`",
        "settings": _bullets(settings) or "All defaults.",
        "versions": _bullets(facts["versions"]),
    }
    ModelCard(TEXT.format(**filled)).save(path)


def _inputs(facts: Mapping[str, Any]) -> str:
    """Python that makes the model's inputs as they were in training."""
    if not facts.get("chat"):
        return f'tokenizer({str(facts["template"]) + ("" if facts["seq2seq"] else chr(10))!r}, return_tensors="pt")'
    tools = f", tools={facts['tools']!r}" if facts["tools"] else ""
    how = 'add_generation_prompt=True, return_dict=True, return_tensors="pt"'
    return f"tokenizer.apply_chat_template({facts['chat']!r}{tools}, {how})"


def _row(score: Score) -> str:
    baseline = "" if score.baseline is None else f"{score.baseline:.4f}"
    interval = f"{score.low:+.4f} to {score.high:+.4f}"
    return f"| {score.metric} | {score.base:.4f} | {score.adapter:.4f} | {baseline} | {score.difference:+.4f} | {interval} |"


def _metadata(facts: Mapping[str, Any], scores: Sequence[Score]) -> ModelCardData:
    base, task = str(facts["base"]), "text2text-generation" if facts["seq2seq"] else "text-generation"
    results = [
        EvalResult(
            task_type=task,
            dataset_type="custom",
            dataset_name=str(facts["data"]),
            metric_type=score.metric,
            metric_value=round(score.adapter, 6),
        )
        for score in scores
    ]
    return ModelCardData(
        base_model=base if _is_on_hub(base) else None, library_name="peft", license="other", tags=["lora"],
        model_name=str(facts["title"]), eval_results=results or None, pipeline_tag=task,
    )  # fmt: skip


def _is_on_hub(base: str) -> bool:
    """Whether `base` is an id of the hub; it refuses cards that name a folder."""
    return base.count("/") <= 1 and not base.startswith((".", "/", "~")) and not Path(base).exists()


def _bullets(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"- `{name}`: {one_line(value)}" for name, value in pairs.items())
