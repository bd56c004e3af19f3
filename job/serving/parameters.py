"""What each of OpenAI's two endpoints takes: a parameter that would not be heeded is refused, never ignored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from job.serving.http import Refused

SAME: dict[str, tuple] = {
    "temperature": (0, 1), "top_p": (1,), "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},),
    "logprobs": (False,),
}  # fmt: skip
"""Parameters and the values with which they change nothing: answers are made as in the evaluation, the likeliest ones."""
HEEDED = {"model", "max_tokens", "stop", "stream", "stream_options", "row"}
OF_NO_EFFECT = {"user", "seed"}


@dataclass(frozen=True)
class Endpoint:
    """The parameters of one path."""

    path: str
    heeded: set[str]
    same: dict[str, tuple]
    """As `SAME`."""
    of_no_effect: set[str]
    """On an answer."""

    @property
    def names(self) -> set[str]:
        return self.heeded | self.same.keys() | self.of_no_effect

    def check(self, body: Mapping[str, Any]) -> None:
        """Raises Refused for a parameter that would not be heeded."""
        for name, value in body.items():
            if name not in self.names:
                other = next((f"; {one.path} has it" for one in (COMPLETIONS, CHAT) if name in one.names), "")
                raise Refused(400, f"{name}: no parameter of {self.path}{other}.", "unknown_parameter", name)
            if value is not None and not any(_is_equal(value, same) for same in self.same.get(name, (value,))):
                message = f"{name}={json.dumps(value)}: answers are made as the run was evaluated, without sampling. Leave it out."
                raise Refused(400, message, "unsupported_value", name)
        for name, kind, wanted in (("stream", bool, "true or false"), ("stream_options", dict, "an object")):
            if not isinstance(body.get(name), kind | None):
                raise Refused(400, f"{name}: {wanted} was expected.", param=name)


COMPLETIONS = Endpoint(
    "/v1/completions",
    HEEDED | {"prompt"},
    SAME | {"best_of": (1,), "echo": (False,), "suffix": ("",)},
    OF_NO_EFFECT,
)
CHAT = Endpoint(
    "/v1/chat/completions",
    HEEDED | {"messages", "max_completion_tokens", "tools"},
    SAME
    | {"top_logprobs": (0,), "response_format": ({"type": "text"},), "tool_choice": ("auto", "none"), "modalities": (["text"],)},
    OF_NO_EFFECT
    | {
        "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "parallel_tool_calls", "reasoning_effort", "verbosity",
    },
)  # fmt: skip


def _is_equal(value: object, other: object) -> bool:
    """Python's true is 1, which in JSON it is not."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other
