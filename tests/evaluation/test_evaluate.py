"""Base, adapter and baseline side by side, and the file that they go to."""

import csv
from pathlib import Path

import pandas
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer

from job.errors import Diverged
from job.evaluation.evaluate import TEXT_COLUMNS, Evaluation, Scoring, evaluate, read_csv, write_csv
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


def write_texts(path: Path, inputs: list[str], outputs: list[str]) -> None:
    count = len(inputs)
    losses = {"loss": [1.0] * count}, {"loss": [2.0] * count}, {}
    write_csv(Evaluation(inputs, ["1"] * count, [""] * count, outputs, ["2"] * count, *losses), path)


def test_texts_come_back_as_they_are_whatever_they_begin_with(tmp_path):
    inputs, outputs = ["a", 'b "x",\ny', "Grüße 你好", "'=c"], ["=1", "-5", "'", "'@x"]
    write_texts(tmp_path / "e.csv", inputs, outputs)
    rows = read_csv(tmp_path / "e.csv")
    assert [row["input"] for row in rows] == inputs
    assert [row["adapter_output"] for row in rows] == outputs
    assert list(rows[0]) == [*TEXT_COLUMNS, "base_loss", "adapter_loss"]


def test_a_spreadsheet_program_shows_the_csv_with_its_umlauts_and_computes_none_of_its_cells(tmp_path):
    write_texts(tmp_path / "e.csv", ["Grüße", '=HYPERLINK("x")', "-5"], ["=1+1", "+1 day", "-0.5"])
    assert (tmp_path / "e.csv").read_bytes().startswith(b"\xef\xbb\xbfinput,ground_truth,")
    shown = pandas.read_csv(tmp_path / "e.csv", dtype=str)
    assert shown["input"].tolist() == ["Grüße", '\'=HYPERLINK("x")', "-5"]
    assert shown["adapter_output"].tolist() == ["'=1+1", "'+1 day", "-0.5"]


def test_texts_of_a_file_that_0_1_0_wrote_are_taken_as_they_stand(tmp_path):
    (tmp_path / "e.csv").write_text("input,trivial_output\n'=1,=2\n")
    assert read_csv(tmp_path / "e.csv") == [{"input": "'=1", "baseline_output": "=2"}]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_no_verdict(tmp_path, score):
    texts = [["x"] * 30] * 5
    scores = {"loss": [1.0] * 30}, {"loss": [1.0] * 29 + [score]}, {}
    with pytest.raises(Diverged, match="adapter_loss is not finite on a held-out row"):
        write_csv(Evaluation(*texts, *scores), tmp_path / "evaluation.csv")
    assert not (tmp_path / "evaluation.csv").exists()
