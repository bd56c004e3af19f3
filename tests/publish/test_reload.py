"""The script that loads what was published as anybody would: what it answers is what the model answers, whoever asks."""

import ast
import json

import pytest
import torch
from transformers import AutoTokenizer

from job.evaluation.generate import Decoding, generate, measure_losses
from job.publish import reload, verification
from tests.tiny_models import adapted, load, rows


def test_the_fresh_process_imports_nothing_of_the_job():
    imported = {
        name
        for node in ast.walk(ast.parse(verification.SCRIPT.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert {name.partition(".")[0] for name in imported} == {"json", "sys", "pathlib", "torch", "peft", "transformers"}


@pytest.fixture(params=["t5_folder", "llama_folder"])
def published(request, tmp_path) -> tuple:
    """A model with an adapter, its folder, and the task of answering the tiny rows with it."""
    folder = request.getfixturevalue(request.param)
    model, causal = adapted(load(folder)).eval(), request.param == "llama_folder"
    model.save_pretrained(tmp_path / "adapter")
    asked = []
    for row in rows(causal):
        prompt = row["input_ids"][: row["labels"].count(-100)] if causal else row["input_ids"]
        asked.append({"prompt": prompt, "input_ids": row["input_ids"], "labels": row["labels"], "max_new_tokens": 6})
    task = {
        "model": str(folder), "arguments": {}, "seq2seq": not causal, "dtype": "float32", "quantization": None, "device": "cpu",
        "adapter": str(tmp_path / "adapter"), "tokenizer": str(folder), "rows": asked, "num_beams": 1,
        "kept_special_tokens": [],
    }  # fmt: skip
    return model, task


def test_it_answers_and_measures_as_the_evaluation_does(published):
    model, task = published
    tokenizer, decoding = AutoTokenizer.from_pretrained(task["tokenizer"]), Decoding(4, 6, 1)
    found = reload.answer(json.loads(json.dumps(task)))
    assert found["outputs"] == generate(model, tokenizer, [row["prompt"] for row in task["rows"]], decoding)
    assert found["losses"] == pytest.approx(measure_losses(model, tokenizer, task["rows"], decoding), rel=1e-5)


def test_beams_are_those_of_the_task(published):
    model, task = published
    tokenizer = AutoTokenizer.from_pretrained(task["tokenizer"])
    found = reload.answer(task | {"num_beams": 3})
    assert found["outputs"] == generate(model, tokenizer, [row["prompt"] for row in task["rows"]], Decoding(4, 6, 3))


def other_answers(task: dict, model: torch.nn.Module, place: int) -> tuple[list[dict], list[float]]:
    """Rows with an answer that has the second best token in a `place`, and how far its logit is from the best, by hand."""
    asked, gaps = [], []
    for row in task["rows"]:
        begin, answered = reload.generate(model, AutoTokenizer.from_pretrained(task["tokenizer"]), row, task)
        before = torch.tensor([[*begin, *answered[:place]]])
        inputs = (
            {"input_ids": torch.tensor([row["prompt"]]), "decoder_input_ids": before} if task["seq2seq"] else {"input_ids": before}
        )
        with torch.no_grad():
            best = model(**inputs).logits[0, -1].double().topk(2)
        assert best.indices[0] == answered[place]
        asked.append(row | {"answers": {"another": [*answered[:place], int(best.indices[1]), 7]}})
        gaps.append(float(best.values[0] - best.values[1]) / max(1.0, float(best.values.abs().max())))
    return asked, gaps


@pytest.mark.parametrize("place", [0, 3])
def test_how_near_it_was_to_another_answer_is_the_gap_of_the_logits_where_they_part(published, place):
    model, task = published
    asked, gaps = other_answers(task, model, place)
    found = reload.answer(task | {"rows": asked})["gaps"]
    assert [gap["another"] for gap in found] == pytest.approx(gaps, rel=1e-3, abs=1e-6)


def test_an_answer_that_is_the_same_or_ends_without_an_end_marker_is_no_near_tie(published):
    model, task = published
    outputs = reload.answer(task)["outputs"]
    _, answered = reload.generate(model, AutoTokenizer.from_pretrained(task["tokenizer"]), task["rows"][0], task)
    row = task["rows"][0] | {"answers": {outputs[0]: answered, "shorter": answered[:-1]}}
    assert reload.answer(task | {"rows": [row]})["gaps"] == [{"shorter": float("inf")}]


def test_beams_are_as_far_apart_as_the_mean_log_probabilities_of_their_tokens(published):
    """By transformers' own losses of both answers."""
    model, task = published
    tokenizer, beams = AutoTokenizer.from_pretrained(task["tokenizer"]), task | {"num_beams": 3}
    prompt, other = task["rows"][0]["prompt"], [9, 8, 7]
    _, answered = reload.generate(model, tokenizer, task["rows"][0], beams)
    rows = [
        {"input_ids": prompt, "labels": ids}
        if task["seq2seq"]
        else {"input_ids": prompt + ids, "labels": [-100] * len(prompt) + ids}
        for ids in (answered, other)
    ]
    one, another = measure_losses(model, tokenizer, rows, Decoding(4, 6, 1))
    found = reload.answer(beams | {"rows": [task["rows"][0] | {"answers": {"another": other}}]})["gaps"]
    assert found[0]["another"] == pytest.approx(abs(one - another), rel=1e-4)


def test_without_an_adapter_it_is_the_base_model(published):
    model, task = published
    tokenizer = AutoTokenizer.from_pretrained(task["tokenizer"])
    with model.disable_adapter():
        expected = measure_losses(model, tokenizer, task["rows"], Decoding(4, 6, 1))
    assert reload.answer(task | {"adapter": None})["losses"] == pytest.approx(expected, rel=1e-5)
    assert reload.answer(task)["losses"] != pytest.approx(expected, rel=1e-3)


def test_the_type_of_the_weights_is_that_of_the_task(published):
    model, _ = reload.load(published[1] | {"dtype": "bfloat16", "adapter": None})
    assert {parameter.dtype for parameter in model.parameters() if parameter.dim() == 2} == {torch.bfloat16}


def test_quantised_weights_are_those_of_the_task(published):
    quantization = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float32"}
    model, _ = reload.load(published[1] | {"quantization": quantization})
    kinds = {type(module).__name__ for module in model.modules()}
    assert "Linear4bit" in kinds
