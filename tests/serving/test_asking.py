"""What is sent becomes the prompt that the adapter was trained to read, or is refused in one line."""

import threading
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from job.serving.asking import Asking, wait_for
from job.serving.batches import Batches, Question
from job.serving.http import Refused
from tests.serving.conftest import ASKED


def with_record(site, **changes):
    """The site's asking, as if its adapter had been trained otherwise."""
    adapter = site.page.asking.adapter
    template = changes.get("prompt_template", adapter.columns.template)
    record, columns = replace(adapter.record, **changes), replace(adapter.columns, template=template)
    return replace(site.page.asking, adapter=replace(adapter, record=record, columns=columns))


def test_a_row_is_read_as_in_the_training(site, pristine_run):
    tokenizer = AutoTokenizer.from_pretrained(pristine_run[1] / "output" / "r" / "adapter")
    found = site.page.asking.read_rows([{"input": "the 3 of June"}, {"input": " 5 "}, {"input": "=1+2"}])
    assert found == [tokenizer(f"Input: {text}").input_ids for text in ("the 3 of June", " 5 ", "=1+2")]


def test_the_form_has_the_columns_of_the_template(site):
    assert site.page.asking.fields == ("input",)
    assert with_record(site, prompt_template="{question} of {place.name}").fields == ("question", "place.name")
    assert with_record(site, prompt_template="{% if a %}{{ a }}{% endif %}{{ b }}").fields == ("a", "b")
    assert with_record(site, chat=True, input_column="text").fields == ("text",)


def test_a_dotted_column_can_be_given_by_its_whole_name(site):
    asking = with_record(site, prompt_template="{place.name}: {input}")
    plain = site.page.asking.adapter.tokenizer("here: 5").input_ids
    assert asking.read_rows([{"place.name": "here", "input": "5"}]) == [plain]
    assert asking.read_rows([{"place": {"name": "here"}, "input": "5"}]) == [plain]


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([{"input": "a"}, {"input": "  "}], "invalid_prompt", "prompt 2 is empty."),
        ([{"input": None}], "invalid_prompt", "prompt 1 is empty."),
        ([{}], "invalid_prompt", "prompt 1 is empty."),
        ([{"other": "a"}], "invalid_prompt", 'no column "input"; found "other"'),
        ([{"input": "word " * 2000}], "context_length_exceeded", "tokens: this adapter reads 512."),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(site, rows, code, said):
    with pytest.raises(Refused) as refused:
        site.page.asking.read_rows(rows)
    error = refused.value.content["error"]
    assert refused.value.reply.status == 400
    assert error["code"] == code
    assert said in error["message"]
    assert "\n" not in error["message"]


def test_tokens_that_the_model_lacks_are_refused(site):
    with pytest.raises(Refused, match="400 embeddings"):
        site.page.asking.read_ids([[5, 400]])


def test_a_full_line_is_told_and_when_to_come_back(site, request_for):
    stuck, has_begun = threading.Event(), threading.Event()
    full = Batches(lambda questions: has_begun.set() or stuck.wait(10) or [], 1, 2)
    asking = Asking(site.page.asking.adapter, full)
    full.ask([Question([0], 1)])
    assert has_begun.wait(10)
    full.ask([Question([1], 1)])
    with pytest.raises(Refused, match=r"^1 of SERVE_QUEUE=2 questions wait already. Ask again later\.$") as refused:
        asking.answers([Question([2], 1), Question([3], 1)], request_for("POST", "/"))
    assert refused.value.reply.status == 429
    assert refused.value.reply.headers["Retry_After"] == "1"
    stuck.set()


def test_more_prompts_than_may_ever_wait_are_not_told_to_come_back(ask):
    status, said = ask("POST", "/v1/completions", {"model": "r", "prompt": [ASKED] * 65})
    assert status == 400
    assert said["error"]["message"] == "65 prompts in one request: at most SERVE_QUEUE=64 may wait. Send fewer at once."
    status, said = ask("POST", "/v1/completions", {"model": "r", "prompt": [ASKED] * 64, "max_tokens": 1})
    assert (status, len(said["choices"])) == (200, 64)


def test_questions_of_a_client_that_is_gone_are_not_asked(request_for, monkeypatch):
    monkeypatch.setattr("job.serving.asking.LOOK_EVERY_S", 0.01)
    questions = [Question([1], 1), Question([2], 1)]
    with pytest.raises(ConnectionError):
        wait_for(questions[0], questions, request_for("POST", "/", is_gone=True))
    assert all(question.answer.cancelled() for question in questions)
