"""Outputs and losses of a model on prepared rows, batches sorted by length."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import BatchEncoding, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from job.data.special_tokens import special_token_ids
from job.errors import OutOfMemory
from job.labels import IGNORED, end_tokens
from job.model.alone import must_answer_alone
from job.model.answering import plain_decoding
from job.model.loss import row_losses
from job.model.packing import model_inputs, padding_collator
from job.model.positions import read_positions
from job.model.sharding import is_sharded
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory

log = logging.getLogger(__name__)

Ids = list[int]


@dataclass(frozen=True)
class Decoding:
    """How outputs are made; the same for base and adapter."""

    batch_size: int
    max_new_tokens: int
    num_beams: int
    report: Callable[[str, int, int], None] = lambda *_: None
    """Takes what is computed ("generate", "loss"), rows done, rows in all, after each batch."""
    kept: tuple[int, ...] = ()
    """Special tokens that belong to the text of an answer."""


def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Ids], decoding: Decoding) -> list[str]:
    """The model's output text for each prompt (token ids), in the order of the prompts. Never samples."""
    return decode(generate_ids(model, tokenizer, prompts, decoding), tokenizer, decoding.kept)


def decode(answers: Sequence[Ids], tokenizer: PreTrainedTokenizerBase, kept: Collection[int] = ()) -> list[str]:
    """The texts of answers, without special tokens but those that are `kept`."""
    hidden = special_token_ids(tokenizer) - set(kept)
    return [tokenizer.decode([token for token in answer if token not in hidden]).strip() for answer in answers]


def generate_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Ids], decoding: Decoding
) -> list[Ids]:
    """The same as token ids, each answer up to its end marker.

    One that the model's positions cut short is computed alone; all are where the model's answers depend on what is beside a row.
    Not so where ranks share the weights: they have to compute as many batches each.
    """
    answers: list[Ids] = [[]] * len(prompts)
    together = {"synced_gpus": True} if is_sharded(model) else {}
    positions = read_positions(model.config)
    room = [positions.room(len(prompt), decoding.max_new_tokens) for prompt in prompts]
    model.eval()

    def answer(places: list[int]) -> None:
        config = generation_config(model, tokenizer, replace(decoding, max_new_tokens=min(room[place] for place in places)))
        ends = end_tokens(config.eos_token_id)
        inputs = _pad([prompts[place] for place in places], tokenizer, "right" if model.config.is_encoder_decoder else "left")
        with torch.inference_mode():
            tokens = model.generate(**inputs.to(model.device), generation_config=config, **together)
        begin = 1 if model.config.is_encoder_decoder else inputs.input_ids.shape[1]
        for place, made in zip(places, tokens[:, begin:].tolist(), strict=True):
            end = next((number for number, token in enumerate(made, 1) if token in ends), len(made))
            answers[place] = made[:end]

    widest = max(room, default=0)
    alone = {place for place, tokens in enumerate(room) if tokens < widest and not together}
    decoding = replace(decoding, batch_size=1) if must_answer_alone(model, tokenizer.pad_token_id) else decoding
    _in_batches([len(prompt) for prompt in prompts], decoding, "generate", answer, alone)
    return answers


def confidences(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Ids], answers: Sequence[Ids], decoding: Decoding
) -> list[float]:
    """The mean log-probability of the tokens of each answer, its end marker too, as the model would pick each after the others."""
    seq2seq = model.config.is_encoder_decoder
    rows = [
        {"input_ids": prompt, "labels": answer}
        if seq2seq
        else {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return [-loss for loss in measure_losses(model, tokenizer, rows, decoding)]


def generation_config(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, decoding: Decoding) -> GenerationConfig:
    """A decoding without sampling, whatever the model's own generation config says, with the model's special tokens."""
    config = plain_decoding(model.generation_config)
    config.update(num_beams=decoding.num_beams, max_new_tokens=decoding.max_new_tokens, pad_token_id=tokenizer.pad_token_id)
    if config.eos_token_id is None:
        config.eos_token_id = tokenizer.eos_token_id
    return config


def measure_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict], decoding: Decoding
) -> list[float]:
    """Mean cross-entropy a target token for each row of `input_ids` and `labels`."""
    collate = padding_collator(model, tokenizer)
    losses = [0.0] * len(rows)
    model.eval()

    def measure(places: list[int]) -> None:
        batch = collate([rows[place] for place in places]).to(model.device)
        with torch.inference_mode():
            found = row_losses(model(**model_inputs(batch)).logits, batch["labels"], shift=not model.config.is_encoder_decoder)
        for place, loss in zip(places, found.tolist(), strict=True):
            losses[place] = loss

    _in_batches([len(row["input_ids"]) for row in rows], decoding, "loss", measure)
    return losses


def prompt_of(row: dict, seq2seq: bool) -> Ids:
    """What the model sees of a prepared row before it answers: for causal models all up to the last answer."""
    if seq2seq:
        return row["input_ids"]
    labels = row["labels"]
    end = max(place for place, label in enumerate(labels) if label != IGNORED)
    start = next((place for place in range(end, -1, -1) if labels[place] == IGNORED), -1)
    return row["input_ids"][: start + 1]


def _in_batches(
    lengths: list[int], decoding: Decoding, name: str, compute: Callable[[list[int]], None], alone: Collection[int] = ()
) -> None:
    """Calls `compute` with the places of all rows, the longest first; fewer at once where they do not fit the memory.

    alone: places of the longest rows that are not computed with others. Raises OutOfMemory if one row does not fit.
    """
    batch_size = decoding.batch_size
    left = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    while left:
        places = left[: 1 if left[0] in alone else batch_size]
        try:
            with one_name_for_full_memory():
                compute(places)
        except torch.OutOfMemoryError as error:
            if len(places) == 1:
                longest = lengths[places[0]]
                raise OutOfMemory(f"{name}: one row of {longest} tokens does not fit. Set MAX_SOURCE_LENGTH.") from error
            batch_size = len(places) // 2
            log.warning("%s: out of memory with %d rows at once, %d from here on", name, len(places), batch_size)
            free_memory()
            continue
        left = left[len(places) :]
        decoding.report(name, len(lengths) - len(left), len(lengths))


def _pad(prompts: list[Ids], tokenizer: PreTrainedTokenizerBase, side: str) -> BatchEncoding:
    """One batch. Encoders number positions from the left end on, padding or not; decoders continue a row at its right end."""
    return tokenizer.pad({"input_ids": prompts}, padding=True, padding_side=side, return_tensors="pt")
