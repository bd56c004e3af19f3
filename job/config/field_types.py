"""The types of variables that are more than a number, a text or a choice."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticUseDefault
from pydantic_settings import NoDecode

DEMO = "demo"
"""MODEL_ID and TRAIN_DATA that are embedded."""


def _length(text: str) -> str:
    """`text` if it is a length: "auto", a percentile like "p85", or a number of tokens."""
    number = text.removeprefix("p")
    if text == "auto" or (number.isdecimal() and (1 <= int(number) <= 100 or text == number != "0")):
        return text
    raise ValueError('a number of tokens, a percentile like "p85", or "auto" was expected')


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _without_service_address(value: object) -> object:
    """`value`, but the default where Kubernetes put the address of a Service named "tensorboard" or "serve" (tcp://10.0.0.1:6006)."""
    if isinstance(value, str) and value.startswith(("tcp://", "udp://")):
        raise PydanticUseDefault
    return value


Count = Annotated[int, Field(ge=1, lt=2**31)]
"""What libraries take a number of things to be: 32 bits."""
Amount = Annotated[float, Field(gt=0, lt=1e6)]
Length = Annotated[str, AfterValidator(_length)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
FileFunction = Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")]
Processes = Annotated[str, Field(pattern=r"^(auto|[1-9]\d*)$")]
Lengths = Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*/[1-9]\d*$")]
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(_without_service_address)]
Schedule = Literal["no", "epoch", "steps"]
