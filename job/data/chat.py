"""Chats in the model's own template -> token ids and labels, and what ends an answer there."""

from transformers import PreTrainedTokenizerBase

from job.errors import DataError
from job.labels import IGNORED

Ids = list[int]


def encode_chats(chats: list[list[dict[str, str]]], tokenizer: PreTrainedTokenizerBase) -> list[Ids]:
    """Token ids of chats in the model's own template, as the model sees them before it answers."""
    return [_render(chat, tokenizer, answer_next=True) for chat in chats]


def encode_examples(batch: dict[str, list], tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Ids]]:
    """The ids and labels of a batch of examples, as `source_ids` and `target_ids`."""
    encoded = [encode_chat(chat, tokenizer) for chat in batch["messages"]]
    return {"source_ids": [ids for ids, _ in encoded], "target_ids": [labels for _, labels in encoded]}


def encode_chat(chat: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> tuple[Ids, Ids]:
    """Token ids of a chat in the model's own template, and its labels: the assistant's turns, -100 elsewhere.

    Raises DataError if the template rewrites earlier turns, so that a turn cannot be located.
    """
    ids = _render(chat, tokenizer, answer_next=False)
    labels = [IGNORED] * len(ids)
    for number, turn in enumerate(chat):
        if turn["role"] != "assistant":
            continue
        before = _render(chat[:number], tokenizer, answer_next=True)
        after = _render(chat[: number + 1], tokenizer, answer_next=False)
        if ids[: len(before)] != before or ids[: len(after)] != after:
            raise DataError(
                f"MESSAGES_COLUMN: this model's chat template rewrites earlier turns when a chat continues; message {number + 1} "
                "cannot be found in it. Give each chat one answer, or use INPUT_COLUMN and TARGET_COLUMN."
            )
        labels[len(before) : len(after)] = ids[len(before) : len(after)]
    return ids, labels


def _render(chat: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, answer_next: bool) -> Ids:
    if not chat and not answer_next:
        return []
    return tokenizer.apply_chat_template(chat, add_generation_prompt=answer_next, return_dict=False)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the token that ends an assistant's turn in the chat template; None where there is no template, or plain text
    ends a turn."""
    if not tokenizer.chat_template:
        return None
    for messages in ([{"role": "user", "content": "a"}, _ANSWERED], [_ANSWERED]):
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception:  # what a template raises is its author's choice
            continue
        written_after = text.rpartition(_ANSWERED["content"])[2]
        added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
        found = [(written_after.find(token), -len(token), number) for token, number in added.items() if token in written_after]
        return min(found)[2] if found else None
    return None


_ANSWERED = {"role": "assistant", "content": "yes-yes-yes"}
