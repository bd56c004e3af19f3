"""The label that is ignored is the one that torch and transformers ignore and pad with."""

import torch
from transformers import DataCollatorForSeq2Seq

from job.labels import IGNORED


def test_torch_ignores_it_without_being_told(tokenizer):
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED
    logits = torch.randn(3, 5)
    whole = torch.nn.functional.cross_entropy(logits, torch.tensor([1, IGNORED, 4]))
    assert whole == torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([1, 4]))


def test_the_collator_pads_labels_with_it(tokenizer):
    batch = DataCollatorForSeq2Seq(tokenizer)([{"input_ids": [5, 1], "labels": [6, 7, 1]}, {"input_ids": [5, 1], "labels": [1]}])
    assert batch["labels"].tolist() == [[6, 7, 1], [1, IGNORED, IGNORED]]
