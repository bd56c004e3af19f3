"""Base and adapter in one model: each answers as it does alone, however the batch is mixed."""

import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from job.serving.batches import Question

TEXTS = ["Input: the 3 of June", "Input: 5", "Input: the 17 of May please please"]


@pytest.fixture(scope="module")
def alone(pristine_run):
    """What transformers and peft make of each text alone: (side, text) -> ids, with their mean log-probability."""
    variables, folder = pristine_run
    adapter = folder / "output" / "r" / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    models = {
        True: AutoModelForSeq2SeqLM.from_pretrained(variables["MODEL_ID"]).eval(),
        False: AutoPeftModelForSeq2SeqLM.from_pretrained(adapter).eval(),
    }
    found = {}
    for of_base, model in models.items():
        for text in TEXTS:
            inputs = tokenizer(text, return_tensors="pt")
            made = model.generate(
                **inputs, max_new_tokens=8, do_sample=False, output_scores=True, return_dict_in_generate=True, eos_token_id=1
            )
            scores = model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
            found[of_base, text] = (tokenizer(text).input_ids, made.sequences[0, 1:].tolist(), scores[0].mean().item())
    return found


@pytest.mark.parametrize("of_base", [True, False])
def test_each_side_answers_as_the_libraries_do_alone(site, alone, of_base):
    sides = site.batches._answer.__self__
    questions = [Question(alone[of_base, text][0], 8, of_base, confidence=number != 1) for number, text in enumerate(TEXTS)]
    answers = sides.answer(questions)
    assert [answer.ids for answer in answers] == [alone[of_base, text][1] for text in TEXTS]
    assert [answer.confidence is None for answer in answers] == [False, True, False]
    for answer, text in ((answers[0], TEXTS[0]), (answers[2], TEXTS[2])):
        assert answer.confidence == pytest.approx(alone[of_base, text][2], abs=1e-5)


def test_the_sides_differ_and_the_base_leaves_no_trace_in_the_adapter(site, alone):
    sides = site.batches._answer.__self__
    prompt = alone[False, TEXTS[0]][0]
    before = sides.answer([Question(prompt, 8, confidence=True)])[0]
    base = sides.answer([Question(prompt, 8, of_base=True, confidence=True)])[0]
    after = sides.answer([Question(prompt, 8, confidence=True)])[0]
    assert before == after
    assert base.confidence != before.confidence


def test_a_shorter_answer_is_the_beginning_of_the_longer_one(site, alone):
    sides = site.batches._answer.__self__
    prompt = alone[False, TEXTS[0]][0]
    short, whole = sides.answer([Question(prompt, 2), Question(prompt, 8)])
    assert short.ids == whole.ids[:2]
    assert not short.ended
    assert whole.ended == (whole.ids[-1] == 1)
    assert torch.is_grad_enabled()
