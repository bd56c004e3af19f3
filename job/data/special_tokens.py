"""Special tokens that people's answers are made of, such as `<extra_id_0>`: they are a part of the text, not of its frame."""

import pyarrow.compute as pc
from datasets import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerBase

from job.data.token_lengths import ROWS_AT_ONCE
from job.labels import end_tokens


def special_tokens_in_answers(rows: Dataset, tokenizer: PreTrainedTokenizerBase, answering: GenerationConfig) -> tuple[int, ...]:
    """The special tokens in the labels of `rows` that neither the tokenizer adds by itself nor `answering` begins or ends with."""
    candidates = special_token_ids(tokenizer) - _frame(tokenizer, answering)
    found: set[int] = set()
    for batch in rows.select_columns(["labels"]).with_format("arrow").iter(batch_size=ROWS_AT_ONCE) if candidates else ():
        found.update(candidates.intersection(pc.unique(batch["labels"].combine_chunks().flatten()).to_pylist()))
    return tuple(sorted(found))


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """What is no text of an answer: tokens that are special, by the tokenizer or in its file alone, and those it puts around one.

    M2M100's languages are of the last kind only.
    """
    marked = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return marked.union(tokenizer.all_special_ids, tokenizer(text_target="").input_ids)


def _frame(tokenizer: PreTrainedTokenizerBase, answering: GenerationConfig) -> set[int | None]:
    begins = {answering.decoder_start_token_id, answering.forced_bos_token_id, answering.bos_token_id, tokenizer.bos_token_id}
    others = {tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, answering.pad_token_id}
    return {*end_tokens(answering.eos_token_id), *begins, *others, *tokenizer(text_target="").input_ids}
