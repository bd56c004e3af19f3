"""The command `serve` as a process: it says where it listens, answers, and ends when it is told to."""

import json
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.commands import serve
from job.config.settings import Settings
from tests.conftest import environment_with
from tests.ports import free_port

ENTRYPOINT = Path(__file__).parents[2] / "entrypoint.py"


@contextmanager
def served(variables, **more):
    """(process, address) of a server that listens; both are gone afterwards."""
    command = [sys.executable, str(ENTRYPOINT), "serve"]
    environment = environment_with(variables | {"SERVE_PORT": free_port(), "DEVICE": "cpu"} | more)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "try it: " in line:
                break
        try:
            assert process.poll() is None, "".join(lines)
            process.told = "".join(lines)
            yield process, lines[-1].split("try it: ")[1].strip()
        finally:
            process.kill()


def post(address, body, **headers):
    content = json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"} | headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


@pytest.mark.slow
def test_it_answers_with_a_token_and_ends_once_what_is_being_answered_is_finished(finished_run, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with served(finished_run[0], SERVE_TOKEN="s3cret") as (process, address):
        said = post(f"{address}/v1/completions", {"model": "r", "prompt": "the 3 of June"}, Authorization="Bearer s3cret")
        assert said["choices"][0]["finish_reason"] in ("stop", "length")
        with urllib.request.urlopen(address) as page:
            assert b"/page.js" in page.read()
        assert list(temporary.glob("lora-job-tables-*"))
        rows = "".join(f"{number} of June\n" for number in range(200)).encode()
        table = urllib.request.Request(f"{address}/api/tables?name=a.csv", b"input\n" + rows, {"Authorization": "Bearer s3cret"})
        with urllib.request.urlopen(table, timeout=60) as reply:
            assert json.loads(reply.readline()) == {"done": 0, "rows": 200}
            process.send_signal(signal.SIGTERM)
            assert "fetch" in json.loads(reply.read().splitlines()[-1])
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "stopped" in rest
        assert "s3cret" not in process.told + rest
        assert not list(temporary.glob("lora-job-tables-*"))


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"RUN_NAME": "none"}, 66, "no adapter there. Set RUN_NAME to a finished run"),
        ({"SERVE_PORT": 0}, 78, 'SERVE_PORT="0": expected greater than or equal to 1'),
        ({"SERVE_QUEUE": 1}, 78, 'SERVE_QUEUE="1": expected greater than or equal to 2'),
        ({"SERVE_HOST": "203.0.113.7"}, 78, "SERVE_HOST=203.0.113.7, SERVE_PORT=8000: "),
    ],
)
def test_what_cannot_be_served_is_told(finished_run, run_job, variables, code, said):
    found, told = run_job("serve", **finished_run[0] | variables)
    assert found == code
    assert said in told


def test_who_listens_to_all_without_a_token_is_warned(caplog):
    serve._tell(Settings(serve_host="0.0.0.0"), "r")
    serve._tell(Settings(serve_host="0.0.0.0", serve_token="s3cret"), "r")
    serve._tell(Settings(), "r")
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["SERVE_HOST=0.0.0.0: whoever reaches this port may ask. SERVE_TOKEN asks for a password"]
