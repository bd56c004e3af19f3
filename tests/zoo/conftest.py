"""A finished run of each family, made once, and the page that says what was shown of it."""

import json

import pytest

from tests.zoo.families import FAMILIES, build
from tests.zoo.runs import Run, answers, call, rows

SHOWN = "zoo"
"""Folder of the test cache where the processes of one test run leave what they saw."""


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FAMILIES])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of a family that no test may change."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    build(name, folder / "base")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    code, said = call(folder)
    assert code == 0, said
    return Run(name, folder, said, answers(folder / "output" / "finished" / "evaluation.csv"))
