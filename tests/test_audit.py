"""What `make audit` ignores is not used, and where it cannot look it says so."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import audit

JOB = Path(audit.__file__).parents[1] / "job"


@pytest.mark.parametrize("name", audit.IGNORED)
def test_the_call_that_an_ignored_vulnerability_takes_is_nowhere(name):
    call = audit.IGNORED[name][0]
    sources = [JOB.parent / "entrypoint.py", *JOB.rglob("*.py")]
    assert len(sources) > 100
    function = call.partition(".")[2]
    imported = re.compile(rf"from torch\.{call.partition('.')[0]} import .*\b{function}\b")
    assert [path.name for path in sources if call in path.read_text() or imported.search(path.read_text())] == []


def audited(monkeypatch, code: int, stderr: str) -> int:
    def run(command: list, **_: object) -> subprocess.CompletedProcess:
        assert {f"--ignore-vuln={name}" for name in audit.IGNORED} <= set(command)
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(audit.subprocess, "run", run)
    return audit.main()


@pytest.mark.parametrize("why", ["ERROR:x: Dependency not found on PyPI and could not be audited: absl-py (2.5.1)",
                                 "Traceback\nrequests.exceptions.ConnectionError: Max retries exceeded"])  # fmt: skip
def test_where_the_list_cannot_be_had_it_is_told_in_one_line_and_is_no_success(monkeypatch, capsys, why):
    assert audited(monkeypatch, 1, why) == os.EX_UNAVAILABLE
    assert capsys.readouterr().err.splitlines() == [
        f"audit: nothing was checked, the list of known vulnerabilities cannot be had here ({why.splitlines()[-1]})."
    ]


@pytest.mark.parametrize("code", [0, 1])
def test_what_was_found_decides_and_what_is_ignored_is_told(monkeypatch, capsys, code):
    assert audited(monkeypatch, code, "Found 1 known vulnerability\n" if code else "") == code
    said = capsys.readouterr().out
    assert ("Found 1" in said) is bool(code)
    assert all(f"ignored: {name}, " in said for name in audit.IGNORED)
