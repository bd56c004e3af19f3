"""The model card: the adapter's README.md."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes")

TEXT = """\
---
{metadata}
---

# {title}

A LoRA adapter for [{base}](https://huggingface.co/{base}), trained by lora-job on {data} ({train_rows} rows).

**{verdict}** (base -> adapter, on held-out rows, same decoding)

| metric | base | adapter |
|---|---|---|
{scores}

## Use

```python
from peft import {auto_class}
from transformers import AutoTokenizer

model = {auto_class}.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
inputs = tokenizer({prompt!r}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens={max_new_tokens})[0], skip_special_tokens=True))
```

Prompt template: `{template}`

## Limits

Measured on rows like those it was trained on; other inputs may do worse than the base model. The base model's limits and
licence hold for the adapter too.

## Settings

{settings}

## Versions

{versions}
"""


def write_card(
    path: Path, facts: Mapping[str, object], means: Mapping[str, tuple[float, float]], settings: Mapping[str, str]
) -> None:
    """Writes the card to `path`.

    facts: title, base, data, train_rows, verdict, seq2seq, template, max_new_tokens. means: metric -> (base, adapter).
    settings: variables that differ from their default.
    """
    seq2seq = facts["seq2seq"]
    text = TEXT.format(
        **facts,
        metadata=_metadata(facts, means).to_yaml(),
        scores="\n".join(f"| {name} | {base:.4f} | {adapter:.4f} |" for name, (base, adapter) in means.items()),
        auto_class="AutoPeftModelForSeq2SeqLM" if seq2seq else "AutoPeftModelForCausalLM",
        prompt=str(facts["template"]) + ("" if seq2seq else "\n"),
        settings=_bullets(settings) or "All defaults.",
        versions=_bullets({"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}),
    )
    ModelCard(text).save(path)


def _metadata(facts: Mapping[str, object], means: Mapping[str, tuple[float, float]]) -> ModelCardData:
    task = "text2text-generation" if facts["seq2seq"] else "text-generation"
    results = [
        EvalResult(
            task_type=task, dataset_type="custom", dataset_name=str(facts["data"]), metric_type=name, metric_value=round(adapter, 6)
        )
        for name, (_, adapter) in means.items()
    ]
    return ModelCardData(
        base_model=str(facts["base"]), library_name="peft", license="other", tags=["lora"],
        model_name=str(facts["title"]), eval_results=results or None, pipeline_tag=task,
    )  # fmt: skip


def _bullets(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"- `{name}`: {value}" for name, value in pairs.items())
