"""The label that is ignored is the one that torch and transformers ignore and pad with; ends of answers are a list."""

import torch
from transformers import DataCollatorForSeq2Seq, GenerationConfig

from job.labels import IGNORED, end_tokens


def test_torch_ignores_it_without_being_told(tokenizer):
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED
    logits = torch.randn(3, 5)
    whole = torch.nn.functional.cross_entropy(logits, torch.tensor([1, IGNORED, 4]))
    assert whole == torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([1, 4]))


def test_the_collator_pads_labels_with_it(tokenizer):
    batch = DataCollatorForSeq2Seq(tokenizer)([{"input_ids": [5, 1], "labels": [6, 7, 1]}, {"input_ids": [5, 1], "labels": [1]}])
    assert batch["labels"].tolist() == [[6, 7, 1], [1, IGNORED, IGNORED]]


def test_what_ends_an_answer_is_a_list_however_a_generation_config_says_it():
    assert [end_tokens(GenerationConfig(eos_token_id=ends).eos_token_id) for ends in (None, 0, 7, [7, 8])] == [[], [0], [7], [7, 8]]
