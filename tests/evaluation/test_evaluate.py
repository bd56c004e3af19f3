"""Base, adapter and baseline side by side, and the file that they go to."""

import csv

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer

from job.errors import Diverged
from job.evaluation.evaluate import Evaluation, Scoring, evaluate, write_csv
from job.evaluation.generate import Decoding
from job.evaluation.verdict import read_verdict
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.system.ranks import Ranks


def test_rows_without_texts_are_compared_by_their_decoded_tokens(t5_folder):
    tokenizer = AutoTokenizer.from_pretrained(t5_folder)
    model = add_lora(
        load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu"),
        LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q"]),
    )
    source, target = tokenizer("3 May").input_ids, tokenizer("05-03").input_ids
    rows = Dataset.from_list([{"input_ids": source, "labels": target}])
    found = evaluate(model, tokenizer, (rows, rows), Scoring(Decoding(1, 4, 1), ("exact_match",)), Ranks())
    assert (found.inputs, found.truths, found.baseline_outputs) == (["3 May"], ["05-03"], ["05-03"])


def test_texts_longer_than_csv_takes_by_itself_are_read(tmp_path):
    limit = csv.field_size_limit(131_072)
    evaluation = Evaluation(["x" * 200_000], ["y"], [""], ["y"], ["y"], {"exact_match": [0.0]}, {"exact_match": [1.0]}, {})
    try:
        write_csv(evaluation, tmp_path / "evaluation.csv")
        assert read_verdict(tmp_path / "evaluation.csv").rows == 1
    finally:
        csv.field_size_limit(limit)


def test_the_csv_keeps_texts_as_they_are(tmp_path):
    inputs = ["a", 'b "x",\ny', "=c"]
    outputs, losses = ([""] * 3, ["=1"] * 3, ["2"] * 3), ({"loss": [1.0] * 3}, {"loss": [2.0] * 3}, {})
    write_csv(Evaluation(inputs, ["1"] * 3, *outputs, *losses), tmp_path / "e.csv")
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["input"] for row in rows] == inputs
    assert list(rows[0]) == [
        "input",
        "ground_truth",
        "base_output",
        "adapter_output",
        "baseline_output",
        "base_loss",
        "adapter_loss",
    ]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_no_verdict(tmp_path, score):
    texts = [["x"] * 30] * 5
    scores = {"loss": [1.0] * 30}, {"loss": [1.0] * 29 + [score]}, {}
    with pytest.raises(Diverged, match="adapter_loss is not finite on a held-out row"):
        write_csv(Evaluation(*texts, *scores), tmp_path / "evaluation.csv")
    assert not (tmp_path / "evaluation.csv").exists()
