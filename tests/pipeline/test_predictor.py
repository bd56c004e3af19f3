"""What answers: the adapter on its base, as the libraries load them, on the weights that this machine computes with."""

from dataclasses import replace

import pytest
from peft import AutoPeftModelForSeq2SeqLM

from job.errors import SettingsError
from job.pipeline.predictor import Predictor, _weights, added_columns
from job.pipeline.trained_adapter import TrainedAdapter
from job.system.hardware import Hardware


@pytest.fixture
def predictor(make_settings, finished_run):
    settings = make_settings(predict_confidence=True)
    return Predictor.of(settings, TrainedAdapter.of(settings), 32)


def test_it_answers_as_peft_alone_does(predictor, finished_run):
    text, tokenizer = "Input: the 3 of June", predictor.adapter.tokenizer
    found = predictor.answer(predictor.load(), [tokenizer(text).input_ids])
    plain = AutoPeftModelForSeq2SeqLM.from_pretrained(finished_run[1] / "adapter").eval()
    made = plain.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=8, eos_token_id=1)
    assert found["output"] == [tokenizer.decode(made[0], skip_special_tokens=True).strip()]
    assert list(found) == list(added_columns(True)) == ["output", "confidence"]
    assert added_columns(False) == ("output",)


def test_all_that_answers_depend_on_is_in_the_fingerprint(predictor):
    prints = {
        predictor.fingerprint([[1]]),
        predictor.fingerprint([[2]]),
        replace(predictor, weights=("bf16", "none")).fingerprint([[1]]),
        replace(predictor, confidence=False).fingerprint([[1]]),
        replace(predictor, decoding=replace(predictor.decoding, num_beams=2)).fingerprint([[1]]),
    }
    assert len(prints) == 5
    assert predictor.fingerprint([[1]]) in prints
    other_batch = replace(predictor, decoding=replace(predictor.decoding, batch_size=3))
    assert other_batch.fingerprint([[1]]) == predictor.fingerprint([[1]])


def test_the_weights_are_those_of_the_training_where_the_machine_can(make_settings, predictor):
    cpu, record = Hardware("cpu", "CPU", 2**34), predictor.adapter.record
    assert _weights(make_settings(), replace(record, precision="fp16"), cpu) == ("fp32", "none")
    assert _weights(make_settings(), replace(record, precision="bf16", quantization="nf4"), cpu) == ("bf16", "nf4")
    assert _weights(make_settings(precision="fp32"), replace(record, precision="bf16"), cpu) == ("fp32", "none")
    with pytest.raises(SettingsError, match="int8 needs a GPU"):
        _weights(make_settings(), replace(record, quantization="int8"), cpu)
