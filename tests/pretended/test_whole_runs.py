"""Whole runs: every kind of card, each way of holding a base, packed and padded, whole and recomputed, with all that is trained."""

import json
from pathlib import Path

import pytest

PACKED, PADDED, RECOMPUTED = {"PADDING_FREE": "true"}, {"PADDING_FREE": "false"}, {"GRADIENT_CHECKPOINTING": "true"}
NF4, INT8, DORA, HEAD = {"QUANTIZATION": "nf4"}, {"QUANTIZATION": "int8"}, {"USE_DORA": "true"}, {"MODULES_TO_SAVE": "lm_head"}
CASES = [
    ("V100", "t5", PACKED),
    ("V100", "llama", PADDED | RECOMPUTED | HEAD),
    ("V100", "t5", PADDED | NF4 | DORA),
    ("T4", "llama", PACKED | RECOMPUTED),
    ("T4", "llama", PADDED | NF4 | HEAD),
    ("T4", "t5", PACKED | INT8),
    ("L4", "t5", PADDED | HEAD),
    ("L4", "llama", PACKED | INT8 | DORA),
    ("L4", "t5", PACKED | NF4 | RECOMPUTED),
    ("A100", "llama", PADDED | DORA),
    ("A100", "t5", PADDED | INT8 | RECOMPUTED),
    ("A100", "gpt2", PACKED | {"LORA_BIAS": "all"}),
    ("A100", "gpt2", PADDED | {"LORA_BIAS": "lora_only"}),
    ("H100", "t5", PACKED | RECOMPUTED | DORA),
    ("H100", "llama", PACKED | {"PRECISION": "fp32"}),
]
PLACES_BYTES = 4096
"""Of the last packed batch's places, which a T5's attention keeps until the next one."""
CODE_BYTES = 1024
"""Of the 256 numbers that bitsandbytes rounds an NF4 scale to, once a process."""
PRECISION = {"V100": "fp16", "T4": "fp16", "L4": "bf16", "A100": "bf16", "H100": "bf16"}


@pytest.mark.parametrize(("card", "model", "variables"), CASES, ids=lambda part: part if isinstance(part, str) else "-".join(part))
def test_a_run_ends_well_waits_for_nothing_and_gives_all_memory_back(run_on, card, model, variables):
    run = run_on(card, model, **variables)
    assert run.code == 0, run.said
    plan = json.loads(Path("output/r/plan.json").read_text())
    assert plan["precision"] == variables.get("PRECISION", PRECISION[card])
    assert plan["quantization"] == variables.get("QUANTIZATION", "none")
    assert plan["padding_free"] == (variables["PADDING_FREE"] == "true"), run.said
    assert (plan["checkpointed_blocks"] > 0) == ("GRADIENT_CHECKPOINTING" in variables)
    assert all(abs(left) < PLACES_BYTES for left in run.left_bytes.values()), run.left_bytes
    assert run.gpu.live_bytes <= CODE_BYTES
    assert len(run.waits) == 3
    places = {place.rpartition(":")[0] for step in run.waits for place in step}
    allowed = {"training/step.py"} if plan["precision"] == "fp16" else set()  # the loss scaler asks whether the norm is finite
    if not plan["padding_free"]:
        allowed |= {"transformers/masking_utils.py"}  # whether a mask hides anything
    assert places <= allowed, run.waits
    assert all(len([place for place in step if "step.py" in place]) <= 1 for step in run.waits)
