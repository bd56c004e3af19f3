"""Which models answer one row at a time."""

import pytest
import torch

from job.model.alone import must_answer_alone
from tests.zoo.families import FAMILIES

ALONE = ("rwkv", "recurrent_gemma", "minimax")
TOGETHER = ("mamba", "mamba2", "bamba", "jamba", "qwen3_next", "lfm2", "llama", "gemma3")


@pytest.mark.parametrize("family", [*ALONE, *TOGETHER])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_answered_alone_where_a_state_heeds_neither_mask_nor_row(family, dtype):
    torch.manual_seed(0)
    model, tokenizer = FAMILIES[family]()
    model.generation_config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    assert must_answer_alone(model.to(dtype).eval(), model.generation_config.pad_token_id) is (family in ALONE)
