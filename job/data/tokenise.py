"""Examples -> token ids. `labels` is -100 wherever the loss does not look."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset, concatenate_datasets, disable_progress_bars
from transformers import PreTrainedTokenizerBase

from job.data.chat import encode_examples
from job.data.round_trip import RoundTrip, add_missing
from job.errors import SettingsError
from job.labels import IGNORED
from job.system.children import call_in_workers

ROWS_A_PROCESS = 20_000
"""Below this many rows a further process costs more than it saves: fast tokenizers use all cores by themselves."""

FEWER_WORKERS = "Run the same command again; if it ends so again, set a smaller PREPROCESSING_NUM_WORKERS."

Ids = list[int]


@dataclass(frozen=True)
class Encoding:
    """How texts become tokens."""

    tokenizer: PreTrainedTokenizerBase
    seq2seq: bool
    first_token: int | None = None
    """What an encoder-decoder's decoder reads before its first token."""
    every_answer: bool = True
    """Of chats: see `encode_examples`."""
    ends: tuple[int, ...] = ()
    """What ends an answer beside the tokenizer's end marker."""


def tokenise(examples: Dataset, encoding: Encoding, num_proc: int, cache: Path) -> Dataset:
    """`examples` with `source_ids` and `target_ids`, uncut, in the file `cache`; of a chat, all its ids and its labels.

    What the tokens lack of the texts is in `round_trip.COLUMNS`.
    """
    tokenizer = encoding.tokenizer
    if "messages" in examples.column_names:
        if encoding.seq2seq or not tokenizer.chat_template:
            raise SettingsError(
                "chats (MESSAGES_COLUMN) need a causal model with a chat template. "
                "Choose another MODEL_ID, or use INPUT_COLUMN and TARGET_COLUMN."
            )
        encode = partial(encode_examples, tokenizer=tokenizer, every_answer=encoding.every_answer)
    else:
        encode = partial(_encode_pairs, encoding=encoding)
    encode = partial(add_missing, encode=encode, round_trip=RoundTrip(tokenizer, encoding.ends))
    unused = [name for name in ("prompt", "messages") if name in examples.column_names]
    num_proc = min(num_proc, len(examples) // ROWS_A_PROCESS)

    def tokenise_part(rows: Dataset, file: Path) -> Dataset:
        return rows.map(encode, batched=True, remove_columns=unused, cache_file_name=str(file), desc="tokenise")

    if num_proc < 2:
        return tokenise_part(examples, cache)
    files = [cache.with_name(f"{cache.stem}-{number}-of-{num_proc}.arrow") for number in range(num_proc)]
    parts = [examples.shard(num_proc, number, contiguous=True) for number in range(num_proc)]

    def tokenise_in_worker(number: int) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads stayed behind in the process that was forked
        if number:
            disable_progress_bars()  # all go on alike
        tokenise_part(parts[number], files[number])

    call_in_workers([partial(tokenise_in_worker, number) for number in range(num_proc)], FEWER_WORKERS)
    return concatenate_datasets([Dataset.from_file(str(file)) for file in files])


def encode_prompts(prompts: list[str], tokenizer: PreTrainedTokenizerBase, seq2seq: bool) -> list[Ids]:
    """Token ids of prompts, as the model sees them before it answers.

    A causal model gets a line break after the prompt, and no end marker.
    """
    if seq2seq:
        return tokenizer(prompts, verbose=False).input_ids
    encoded = tokenizer([f"{prompt}\n" for prompt in prompts], verbose=False).input_ids
    return [ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids for ids in encoded]


def _encode_pairs(batch: dict[str, list], encoding: Encoding) -> dict[str, list[Ids]]:
    tokenizer, seq2seq, first_token = encoding.tokenizer, encoding.seq2seq, encoding.first_token
    sources = encode_prompts(batch["prompt"], tokenizer, seq2seq)
    if seq2seq:
        targets = tokenizer(text_target=batch["ground_truth"], verbose=False).input_ids
        targets = [ids[1:] if ids[:1] == [first_token] else ids for ids in targets]  # Gemma's tokenizer writes it, T5Gemma reads it
    else:
        targets = tokenizer(batch["ground_truth"], add_special_tokens=False, verbose=False).input_ids
    end = tokenizer.eos_token_id
    ended = (end, *_behind_the_end(tokenizer)) if seq2seq else (end,)
    targets = [ids if ids and ids[-1] in ended else [*ids, end] for ids in targets]
    return {"source_ids": sources, "target_ids": targets}


def _behind_the_end(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """What the tokenizer itself writes behind the end marker of an answer: the language, for mBART."""
    added, end = tokenizer(text_target="").input_ids, tokenizer.eos_token_id
    return added[added.index(end) + 1 :] if end in added else []


def assemble(tokenised: Dataset, longest: tuple[int, int], eos_token_id: int, layout: str, cache: Path) -> Dataset:
    """`input_ids` and `labels`, cut to `longest` (source, target) tokens; `length` of both, and
    `label_count` without those that are -100.

    layout: "seq2seq" (encoder's and decoder's ids), "causal" (one after the other) or "chat" (side by side already).
    """
    join = {"seq2seq": _join_seq2seq, "causal": _join_causal, "chat": _join_chat}[layout]

    def make(batch: dict[str, list[Ids]]) -> dict[str, list]:
        rows = [
            join(cut_source(source, longest[0], eos_token_id), target, longest)
            for source, target in zip(batch["source_ids"], batch["target_ids"], strict=True)
        ]
        return {
            "input_ids": [row["input_ids"] for row in rows],
            "labels": [row["labels"] for row in rows],
            "length": [len(row["input_ids"]) + len(row["labels"]) for row in rows],
            "label_count": [len(row["labels"]) - row["labels"].count(IGNORED) for row in rows],
        }

    unused = ["source_ids", "target_ids"]
    return tokenised.map(make, batched=True, remove_columns=unused, cache_file_name=str(cache), desc="assemble")


def cut_source(ids: Ids, max_length: int, eos_token_id: int) -> Ids:
    """The first `max_length` ids; an end marker stays where there was one."""
    if len(ids) <= max_length:
        return ids
    return [*ids[: max_length - 1], eos_token_id] if ids[-1] == eos_token_id else ids[:max_length]


def _join_seq2seq(source: Ids, target: Ids, longest: tuple[int, int]) -> dict[str, Ids]:
    return {"input_ids": source, "labels": target[: longest[1]]}


def _join_causal(source: Ids, target: Ids, longest: tuple[int, int]) -> dict[str, Ids]:
    target = target[: longest[1]]
    return {"input_ids": source + target, "labels": [IGNORED] * len(source) + target}


def _join_chat(source: Ids, labels: Ids, _: tuple[int, int]) -> dict[str, Ids]:
    return {"input_ids": source, "labels": labels[: len(source)]}
