"""Which models' answers depend on the padding before a row."""

import pytest
import torch

from job.model.padding import sees_padding
from tests.zoo.families import FAMILIES


@pytest.mark.parametrize(
    ("family", "expected"),
    [("rwkv", True), ("recurrent_gemma", True), ("mamba", False), ("bamba", False), ("qwen3_next", False), ("llama", False)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_changes_what_a_state_holds_unless_the_layers_heed_the_mask(family, expected, dtype):
    torch.manual_seed(0)
    model, tokenizer = FAMILIES[family]()
    assert sees_padding(model.to(dtype).eval(), tokenizer.pad_token_id or 0) is expected
