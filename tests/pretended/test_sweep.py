"""Trials of a sweep share the weights of a quantised base: each trains what it would have trained alone."""

import json
from pathlib import Path

import pytest

from job.pipeline import prepare
from job.system.launcher import FAILURES
from job.system.ranks import this_rank

FEW = {
    "EVAL_STRATEGY": "steps", "EVAL_STEPS": 3, "LOAD_BEST_MODEL_AT_END": "false", "TEST_FRACTION": 0.5,
    "PADDING_FREE": "false",  # else a clock decides, and other roundings follow
}  # fmt: skip


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_the_second_trial_on_a_quantised_base_trains_what_a_run_alone_would_have(run_on, quantization):
    usual = FEW | {"QUANTIZATION": quantization}
    swept = run_on("T4", "llama", "sweep", **usual, SWEEP="LORA_R=4,8", SWEEP_TRIALS=2)
    assert swept.code == 0, swept.said
    alone = run_on("T4", "llama", **usual, RUN_NAME="alone", LORA_R=8)
    assert alone.code == 0, alone.said
    second, other = (Path("output", name, "history.json").read_text() for name in ("r-sweep-01", "alone"))
    assert without_times(second) == without_times(other)
    weights = [Path("output", name, "adapter/adapter_model.safetensors").read_bytes() for name in ("r-sweep-01", "alone")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_each_process_checks_the_card_that_it_trains_on(run_on, monkeypatch, tmp_path):
    launched = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "2", FAILURES: str(tmp_path)}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    checked, cards, check_computes = [], [], prepare.check_computes
    monkeypatch.setattr(prepare, "check_computes", lambda *given: (checked.append(cards[0].current), check_computes(*given)))
    Path("output", "r-sweep").mkdir(parents=True)  # as the process has it that launches this one
    this_rank.cache_clear()
    try:
        swept = run_on("T4", "llama", "sweep", **FEW, SWEEP="LORA_R=4,8", SWEEP_TRIALS=2, change=cards.append)
    finally:
        this_rank.cache_clear()
    assert swept.code == 0, swept.said
    assert checked == [1]


def without_times(history: str) -> list[dict]:
    return [{name: value for name, value in entry.items() if name.endswith("loss")} for entry in json.loads(history)]
