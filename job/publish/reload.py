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
    """Outputs, mean losses a label, and how near each row was to answers of others.

    task: `model` (an id or folder), `arguments` of its from_pretrained, `seq2seq`, `dtype`, `quantization` (arguments of a
    BitsAndBytesConfig, or None), `device`, `adapter` (a folder, or None for a model without one), `tokenizer` (a folder),
    `rows` (each `prompt`, `input_ids`, `labels`: lists of ids, `max_new_tokens`; `answers`, if any: text -> ids, of others),
    `num_beams`, `kept_special_tokens` (ids).
    """
    model, tokenizer = load(task)
    outputs, losses, gaps = [], [], []
    with torch.inference_mode():
        for row in task["rows"]:
            begin, answered = generate(model, tokenizer, row, task)
            outputs.append(decode(answered, tokenizer, task["kept_special_tokens"]))
            losses.append(loss(model, row))
            others = {text: ids for text, ids in row.get("answers", {}).items() if text != outputs[-1]}
            gap = beam_gap if task["num_beams"] > 1 else token_gap
            gaps.append({text: gap(model, row["prompt"], begin, answered, ids) for text, ids in others.items()})
    return {"outputs": outputs, "losses": losses, "gaps": gaps}


def load(task: dict) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with its adapter, and the tokenizer that was saved with it."""
    auto = AutoModelForSeq2SeqLM if task["seq2seq"] else AutoModelForCausalLM
    options = {"dtype": getattr(torch, task["dtype"]), "device_map": {"": task["device"]}} | task["arguments"]
    if task["quantization"]:
        options["quantization_config"] = BitsAndBytesConfig(**task["quantization"])
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans 0.15 s for each length that it hasn't met
    model = auto.from_pretrained(task["model"], **options)
    if task["adapter"]:
        if (Path(task["adapter"]) / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(task["adapter"])
        model = PeftModel.from_pretrained(model, task["adapter"])
    trusted = task["arguments"].get("trust_remote_code", False)
    return model.eval(), AutoTokenizer.from_pretrained(task["tokenizer"], trust_remote_code=trusted)


def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, row: dict, task: dict) -> tuple[list[int], list[int]]:
    """What precedes the model's answer to one prompt (the prompt, or a decoder's start), and the answer, without sampling."""
    own, inputs = model.generation_config, torch.tensor([row["prompt"]], device=model.device)
    config = GenerationConfig(
        do_sample=False, num_beams=task["num_beams"], max_new_tokens=row["max_new_tokens"], pad_token_id=tokenizer.pad_token_id,
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        decoder_start_token_id=own.decoder_start_token_id, **{name: getattr(own, name, None) for name in TAKEN_OVER},
    )  # fmt: skip
    tokens = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=config)[0].tolist()
    begin = 1 if task["seq2seq"] else len(row["prompt"])
    return tokens[:begin], tokens[begin:]


def decode(answer: list[int], tokenizer: PreTrainedTokenizerBase, kept: list[int]) -> str:
    """The text of an answer, without special tokens but those that are `kept`."""
    marked = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    hidden = marked.union(tokenizer.all_special_ids, tokenizer(text_target="").input_ids).difference(kept)
    return tokenizer.decode([token for token in answer if token not in hidden]).strip()


def token_gap(model: PreTrainedModel, prompt: list[int], begin: list[int], answered: list[int], other: list[int]) -> float:
    """How far the logits of the first two tokens that differ are apart, relative where they are above 1.

    Infinite where one answer goes on and the other ends without an end marker.
    """
    first = next((place for place, pair in enumerate(zip(answered, other)) if pair[0] != pair[1]), None)  # noqa: B905
    if first is None:
        return float("inf")
    logits = answer_logits(model, prompt, begin, answered[: first + 1])[-1]
    one, another = logits[answered[first]].item(), logits[other[first]].item()
    return abs(one - another) / max(1.0, abs(one), abs(another))


def beam_gap(model: PreTrainedModel, prompt: list[int], begin: list[int], answered: list[int], other: list[int]) -> float:
    """How far the scores of both answers are apart, by which a beam search chooses: mean log-probabilities of their tokens."""
    scores = []
    for ids in (answered, other):
        logits = answer_logits(model, prompt, begin, ids)
        scores.append(-F.cross_entropy(logits, torch.tensor(ids, device=logits.device)).item())
    return abs(scores[0] - scores[1])


def answer_logits(model: PreTrainedModel, prompt: list[int], begin: list[int], ids: list[int]) -> torch.Tensor:
    """What the model sees before each token of an answer: (tokens, vocabulary), float32."""
    before, inputs = [*begin, *ids[:-1]], torch.tensor([prompt], device=model.device)
    tokens = torch.tensor([before], device=model.device)
    if model.config.is_encoder_decoder:
        logits = model(input_ids=inputs, decoder_input_ids=tokens).logits
    else:
        logits = model(input_ids=tokens).logits
    return logits[0, len(begin) - 1 :].float()


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
