"""Loads what was published as anybody would, with nothing but peft and transformers, and answers rows: a process of its own.

Reads a task as JSON from standard input, writes what it found as JSON to standard output. It imports nothing of the job.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

TAKEN_OVER = ("bos_token_id", "forced_bos_token_id", "bad_words_ids", "suppress_tokens", "begin_suppress_tokens")
"""What of a model's generation config belongs to its tokens."""


def answer(task: dict) -> dict:
    """Outputs, and mean losses a label, of each row.

    task: `model` (an id or folder), `arguments` of its from_pretrained, `seq2seq`, `dtype`, `quantization` (arguments of a
    BitsAndBytesConfig, or None), `device`, `adapter` (a folder, or None for a model without one), `tokenizer` (a folder),
    `rows` (each `prompt`, `input_ids`, `labels`: lists of ids, and `max_new_tokens`), `num_beams`, `kept_special_tokens` (ids).
    """
    model, tokenizer = load(task)
    outputs, losses = [], []
    with torch.inference_mode():
        for row in task["rows"]:
            outputs.append(generate(model, tokenizer, row, task))
            losses.append(loss(model, row))
    return {"outputs": outputs, "losses": losses}


def load(task: dict) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with its adapter, and the tokenizer that was saved with it."""
    auto = AutoModelForSeq2SeqLM if task["seq2seq"] else AutoModelForCausalLM
    options = {"dtype": getattr(torch, task["dtype"]), "device_map": {"": task["device"]}} | task["arguments"]
    if task["quantization"]:
        options["quantization_config"] = BitsAndBytesConfig(**task["quantization"])
    model = auto.from_pretrained(task["model"], **options)
    if task["adapter"]:
        if (Path(task["adapter"]) / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(task["adapter"])
        model = PeftModel.from_pretrained(model, task["adapter"])
    trusted = task["arguments"].get("trust_remote_code", False)
    return model.eval(), AutoTokenizer.from_pretrained(task["tokenizer"], trust_remote_code=trusted)


def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, row: dict, task: dict) -> str:
    """The model's answer to one prompt, without sampling."""
    own, inputs = model.generation_config, torch.tensor([row["prompt"]], device=model.device)
    config = GenerationConfig(
        do_sample=False, num_beams=task["num_beams"], max_new_tokens=row["max_new_tokens"], pad_token_id=tokenizer.pad_token_id,
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        decoder_start_token_id=own.decoder_start_token_id, **{name: getattr(own, name, None) for name in TAKEN_OVER},
    )  # fmt: skip
    tokens = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=config)[0].tolist()
    hidden = set(tokenizer.all_special_ids) - set(task["kept_special_tokens"])
    answer = tokens if task["seq2seq"] else tokens[len(row["prompt"]) :]
    return tokenizer.decode([token for token in answer if token not in hidden]).strip()


def loss(model: PreTrainedModel, row: dict) -> float:
    """Mean cross-entropy of the row's labels that are not -100."""
    inputs, labels = (torch.tensor([row[name]], device=model.device) for name in ("input_ids", "labels"))
    if model.config.is_encoder_decoder:
        logits = model(input_ids=inputs, labels=labels).logits
    else:
        logits, labels = model(input_ids=inputs).logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits[0].float(), labels[0]).item()


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
