"""python unknown_fields.py FILE: prints the fields of documents for JobSet and Kubeflow that their models do not have.

Run in the environment of kubernetes.txt. The models themselves ignore such fields, and refuse only wrong values.
"""

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml
from kubeflow_trainer_api import models
from pydantic import BaseModel

KINDS = {
    "JobSet": models.JobsetV1alpha2JobSet,
    "TrainJob": models.TrainerV1alpha1TrainJob,
    "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
}


def unknown(expected: typing.Any, given: object, place: str) -> Iterator[str]:
    """The places in `given` that a document of the type `expected` has no field for."""
    kind = without_wrapping(expected)
    if isinstance(given, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        for name, value in given.items():
            if name in fields:
                yield from unknown(fields[name], value, f"{place}.{name}")
            else:
                yield f"{place}.{name}"
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from unknown(typing.get_args(kind)[0], value, f"{place}[{number}]")


def without_wrapping(expected: typing.Any) -> typing.Any:
    """The type itself, of one that is optional or annotated."""
    parts = [part for part in typing.get_args(expected) if part is not type(None)]
    if typing.get_origin(expected) in (typing.Annotated, typing.Union, types.UnionType):
        return without_wrapping(parts[0])
    return expected


if __name__ == "__main__":
    for document in yaml.safe_load_all(Path(sys.argv[1]).read_text()):
        KINDS[document["kind"]].from_dict(document)
        print(*unknown(KINDS[document["kind"]], document, document["kind"]), sep="\n", end="")
