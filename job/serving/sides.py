"""Base and adapter, one model in memory, asked in batches."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from job.evaluation.generate import Decoding, Ids, confidences, decode, generate_ids, generation_config
from job.labels import end_tokens
from job.model.lora import base_only
from job.serving.batches import Answer, Question


@dataclass(frozen=True)
class Sides:
    """The model that answers, and how."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to questions of one side, as evaluation and `predict` make them. One thread at a time."""
        prompts = [question.prompt for question in questions]
        longest = replace(self.decoding, max_new_tokens=max(question.max_new_tokens for question in questions))
        ends = end_tokens(generation_config(self.model, self.tokenizer, longest).eos_token_id)
        with base_only(self.model) if questions[0].of_base else nullcontext():
            made = generate_ids(self.model, self.tokenizer, prompts, longest)
            ids = [answer[: question.max_new_tokens] for question, answer in zip(questions, made, strict=True)]
            sure = self._confidences(questions, ids)
        texts = decode(ids, self.tokenizer, self.decoding.kept)
        return [
            Answer(text, answer, bool(answer) and answer[-1] in ends, sure.get(place))
            for place, (text, answer) in enumerate(zip(texts, ids, strict=True))
        ]

    def _confidences(self, questions: Sequence[Question], ids: list[Ids]) -> dict[int, float]:
        """Place -> how sure the model is, of the questions that ask."""
        places = [place for place, question in enumerate(questions) if question.confidence]
        found = confidences(
            self.model, self.tokenizer, [questions[place].prompt for place in places], [ids[place] for place in places],
            self.decoding,
        )  # fmt: skip
        return dict(zip(places, found, strict=True))
