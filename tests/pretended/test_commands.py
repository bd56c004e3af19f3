"""The other commands, on a card that is not there."""

import csv
from pathlib import Path


def test_what_was_trained_on_a_card_is_merged_and_answers_there(run_on, capsys):
    assert run_on("A100", "llama", PADDING_FREE="true").code == 0
    merged = run_on("A100", "llama", "merge")
    assert merged.code == 0, merged.said
    assert Path("output/r/merged/model.safetensors").exists()
    predicted = run_on("A100", "llama", "predict", "rows.csv", "answers.csv")
    assert predicted.code == 0, predicted.said
    with Path("answers.csv").open(newline="", encoding="utf-8-sig") as table:
        assert len(list(csv.DictReader(table))) == 40
    assert [run.gpu.live_bytes for run in (merged, predicted)] == [0, 0]


def test_doctor_and_plan_know_the_card(run_on, capsys):
    for command in ("doctor", "plan"):
        run = run_on("V100", "t5", command)
        assert run.code == 0, run.said
    said = capsys.readouterr().out
    assert "Tesla V100-SXM2-16GB, 15.8 GiB, compute capability 7.0" in said
    assert "matrix product, attention and NF4 in fp16 agree with float32" in said
