"""The label that the loss ignores is the one that torch and transformers ignore."""

import torch
from transformers import DataCollatorForSeq2Seq

from job.labels import IGNORED


def test_it_is_what_torch_ignores_and_what_the_collator_pads_labels_with(tokenizer):
    logits, labels = torch.randn(3, 5), torch.tensor([2, IGNORED, 4])
    alone = torch.nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    assert torch.equal(torch.nn.functional.cross_entropy(logits, labels), alone)
    assert DataCollatorForSeq2Seq(tokenizer).label_pad_token_id == IGNORED
