"""Each endpoint has its own parameters, as OpenAI's documentation has them; what would not be heeded is refused."""

import pytest

from job.serving.http import Refused
from job.serving.parameters import CHAT, COMPLETIONS

OF_COMPLETIONS = {
    "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "model", "n", "presence_penalty", "prompt",
    "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
}  # fmt: skip
"""CompletionCreateParams of openai 3.57.0."""
OF_CHAT = {
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens",
    "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction", "presence_penalty",
    "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format",
    "safety_identifier", "seed",
    "service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs",
    "top_p", "user", "verbosity", "web_search_options",
}  # fmt: skip
"""The same of chats."""
OURS = {"row"}


def refused(endpoint, **body) -> dict:
    with pytest.raises(Refused) as found:
        endpoint.check(body)
    return found.value.content["error"]


def test_an_endpoint_takes_no_parameter_that_it_does_not_have():
    assert COMPLETIONS.names - OURS == OF_COMPLETIONS
    assert CHAT.names - OURS < OF_CHAT


@pytest.mark.parametrize("name", sorted(OF_CHAT - CHAT.names))
def test_what_changes_an_answer_of_a_chat_in_a_way_that_is_none_of_ours_is_refused(name):
    assert refused(CHAT, **{name: "x"}) == {
        "message": f"{name}: no parameter of /v1/chat/completions.", "type": "invalid_request_error", "param": name,
        "code": "unknown_parameter",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "name", "other"),
    [
        (COMPLETIONS, "messages", CHAT), (COMPLETIONS, "tools", CHAT), (COMPLETIONS, "max_completion_tokens", CHAT),
        (COMPLETIONS, "response_format", CHAT), (CHAT, "prompt", COMPLETIONS), (CHAT, "suffix", COMPLETIONS),
    ],
)  # fmt: skip
def test_a_parameter_of_the_other_endpoint_is_refused_with_the_way_there(endpoint, name, other):
    assert refused(endpoint, **{name: None})["message"] == f"{name}: no parameter of {endpoint.path}; {other.path} has it."


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (COMPLETIONS, {"logprobs": 0}), (COMPLETIONS, {"temperature": True}), (COMPLETIONS, {"echo": True}),
        (COMPLETIONS, {"suffix": "."}), (CHAT, {"n": 2}), (CHAT, {"logprobs": True}), (CHAT, {"top_logprobs": 2}),
        (CHAT, {"tool_choice": "required"}), (CHAT, {"response_format": {"type": "json_object"}}),
    ],
)  # fmt: skip
def test_a_value_that_would_change_something_is_refused(endpoint, body):
    ((name, _),) = body.items()
    assert refused(endpoint, **body) | {"message": ""} == {
        "message": "", "type": "invalid_request_error", "param": name, "code": "unsupported_value",
    }  # fmt: skip


def test_a_value_that_changes_nothing_is_taken():
    COMPLETIONS.check({"temperature": 1.0, "logprobs": None, "best_of": 1, "logit_bias": {}, "echo": False, "suffix": ""})
    CHAT.check({"temperature": 0, "logprobs": False, "top_logprobs": 0, "response_format": {"type": "text"}, "verbosity": "low"})


@pytest.mark.parametrize("body", [{"stream": 1}, {"stream": "yes"}, {"stream_options": []}])
def test_how_it_is_sent_is_checked_too(body):
    for endpoint in (COMPLETIONS, CHAT):
        assert refused(endpoint, **body)["param"] == next(iter(body))
