"""OpenAI's shape, as its documentation has it: what programs send is heeded or refused, and never ignored."""

import json

import pytest

from tests.serving.conftest import ASKED, body_of

COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"
USER = [{"role": "user", "content": ASKED}]


def complete(ask, **body):
    return ask("POST", COMPLETE, {"model": "r", "prompt": ASKED} | body)


def text_of(reply):
    status, said = reply
    assert status == 200, said
    return said["choices"][0]["text"]


def test_the_models_are_the_run_and_its_base(ask):
    status, said = ask("GET", "/v1/models")
    assert (status, said["object"], [model["id"] for model in said["data"]]) == (200, "list", ["r", "base"])
    assert ask("GET", "/v1/models/base")[1] == said["data"][1]
    assert ask("GET", "/v1/models/gpt")[0] == 404


def test_a_completion_has_every_part_of_openais_and_counts_its_tokens(ask, site):
    status, said = complete(ask, prompt=[ASKED, "5"])
    assert status == 200
    assert set(said) == {"id", "object", "created", "model", "choices", "usage"}
    assert (said["object"], said["model"]) == ("text_completion", "r")
    assert [choice["index"] for choice in said["choices"]] == [0, 1]
    assert all(set(choice) == {"index", "text", "logprobs", "finish_reason"} for choice in said["choices"])
    tokenizer = site.page.asking.adapter.tokenizer
    asked = sum(len(tokenizer(f"Input: {text}").input_ids) for text in (ASKED, "5"))
    assert said["usage"]["prompt_tokens"] == asked
    assert said["usage"]["total_tokens"] == asked + said["usage"]["completion_tokens"]


def test_token_ids_are_read_as_they_are(ask, site):
    ids = site.page.asking.adapter.tokenizer(f"Input: {ASKED}").input_ids
    wanted = text_of(complete(ask))
    assert text_of(complete(ask, prompt=ids)) == text_of(complete(ask, prompt=[ids])) == wanted


def test_a_chat_of_one_message_is_the_same_input(ask):
    status, said = ask("POST", CHAT, {"model": "base", "messages": USER})
    assert status == 200
    assert said["object"] == "chat.completion"
    message = said["choices"][0]["message"]
    assert message == {"role": "assistant", "content": text_of(complete(ask, model="base")), "refusal": None}
    parts = [{"role": "user", "content": [{"type": "text", "text": ASKED[:5]}, {"type": "text", "text": ASKED[5:]}]}]
    assert ask("POST", CHAT, {"model": "base", "messages": parts})[1]["choices"][0]["message"] == message


def test_an_answer_ends_where_it_may_be_no_longer_or_a_stop_comes(ask):
    whole = text_of(complete(ask))
    assert complete(ask, max_tokens=1)[1]["choices"][0]["finish_reason"] == "length"
    assert complete(ask, max_tokens=1)[1]["usage"]["completion_tokens"] == 1
    assert text_of(complete(ask, max_tokens=100_000)) == whole
    cut = complete(ask, stop=["not there", whole[2:4]])[1]["choices"][0]
    assert (cut["text"], cut["finish_reason"]) == (whole[: whole.index(whole[2:4])], "stop")


def events(site, request_for, path, body):
    reply = site.answer(request_for("POST", path, body))
    assert reply.kind.startswith("text/event-stream")
    lines = body_of(reply).decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def test_a_stream_says_the_same(ask, site, request_for):
    body = {"model": "r", "prompt": ASKED, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = events(site, request_for, COMPLETE, body)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text_of(complete(ask))
    assert last["choices"] == []
    assert last["usage"] == complete(ask)[1]["usage"]
    chunks = events(site, request_for, CHAT, {"model": "r", "messages": USER, "stream": True})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == text_of(complete(ask))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == complete(ask)[1]["choices"][0]["finish_reason"]


WRONG = {
    "model": ({"model": "gpt-9"}, 404), "no model": ({"model": None}, 404), "temperature": ({"temperature": 0.7}, 400),
    "n": ({"n": 2}, 400), "logprobs": ({"logprobs": 3}, 400), "echo": ({"echo": True}, 400), "typo": ({"max_token": 3}, 400),
    "max_tokens 0": ({"max_tokens": 0}, 400), "max_tokens text": ({"max_tokens": "3"}, 400), "stream": ({"stream": "yes"}, 400),
    "stop": ({"stop": [""]}, 400), "stops": ({"stop": list("abcde")}, 400), "row": ({"row": [1]}, 400),
    "no prompt": ({"prompt": None}, 400), "no prompts": ({"prompt": []}, 400), "prompt of both": ({"prompt": ["a", 1]}, 400),
    "prompt number": ({"prompt": 5}, 400), "prompt ids": ({"prompt": [[]]}, 400), "negative": ({"prompt": [-1]}, 400),
    "token": ({"prompt": [10**9]}, 400), "bool": ({"prompt": [True]}, 400), "empty": ({"prompt": " "}, 400),
    "format": ({"response_format": {"type": "json_object"}}, 400), "stream_options": ({"stream_options": 3}, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_or_would_be_ignored_is_refused(ask, name):
    body, wanted = WRONG[name]
    status, said = complete(ask, **body)
    assert status == wanted, said
    assert said["error"]["type"] == "invalid_request_error"
    assert said["error"]["message"]


@pytest.mark.parametrize(
    ("path", "more", "said"),
    [
        (COMPLETE, {"messages": USER}, "messages: no parameter of /v1/completions; /v1/chat/completions has it."),
        (CHAT, {"prompt": ASKED}, "prompt: no parameter of /v1/chat/completions; /v1/completions has it."),
        (CHAT, {"tools": [{"type": "function"}]}, "tools: this adapter was trained on single inputs, which have none."),
    ],
)
def test_what_only_another_endpoint_or_adapter_would_heed_is_refused(ask, path, more, said):
    usual = {"prompt": ASKED} if path == COMPLETE else {"messages": USER}
    status, reply = ask("POST", path, {"model": "r"} | usual | more)
    assert (status, reply["error"]["message"]) == (400, said)
    assert reply["error"]["param"] in more


def test_what_changes_nothing_is_taken(ask):
    usual = {"temperature": 0, "top_p": 1, "n": 1, "user": "me", "seed": 3, "logprobs": None, "stop": None, "suffix": None}
    assert text_of(complete(ask, **usual)) == text_of(complete(ask, temperature=1.0)) == text_of(complete(ask))


@pytest.mark.parametrize(
    "messages",
    [
        None, [], "a", [{"role": "system", "content": "be brief"}, *USER], [{"role": "assistant", "content": "a"}], ["a"],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], [{"role": "user"}],
    ],
)  # fmt: skip
def test_messages_that_the_adapter_has_no_place_for_are_refused(ask, messages):
    status, said = ask("POST", CHAT, {"model": "r", "messages": messages})
    assert status == 400
    assert said["error"]["message"].startswith("messages: ")


def test_further_columns_of_the_template_come_beside_the_prompt(ask):
    assert text_of(complete(ask, row={"unused": 3})) == text_of(complete(ask))
    status, said = complete(ask, prompt="", row={"input": ASKED})
    assert (status, said["choices"][0]["text"]) == (200, text_of(complete(ask)))
