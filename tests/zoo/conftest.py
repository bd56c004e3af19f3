"""A finished run of each family, made once, and the page that says what was shown of it."""

import json
from collections.abc import Iterator

import pytest

from tests.zoo import page
from tests.zoo.exceptions import CANNOT
from tests.zoo.families import FAMILIES, build
from tests.zoo.runs import OF_FAMILY, Run, answers, call, rows

ROWS: dict[str, page.Row] = {}
"""Of the page, by family; each process of pytest-xdist hands its own to the one that started it."""


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FAMILIES])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run of a family that no test may change."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    build(name, folder / "base")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    code, said = call(folder, **OF_FAMILY.get(name, {}))
    if refused := CANNOT.get(name, {}).get("train"):
        assert code == 78, said
        assert refused in said
        ROWS[name] = page.row_of_refused(refused)
        pytest.skip(f"refused: {refused}")
    assert code == 0, said
    run = Run(name, folder, said, answers(folder / "output" / "finished" / "evaluation.csv"))
    yield run
    ROWS[name] = page.row_of(run)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes the page if all families were tried and nothing failed."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["zoo"] = ROWS
    elif exitstatus == pytest.ExitCode.OK and ROWS.keys() == FAMILIES.keys():
        page.PATH.write_text(page.page(ROWS))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes what a process of pytest-xdist saw."""
    ROWS.update(getattr(node, "workeroutput", {}).get("zoo", {}))
