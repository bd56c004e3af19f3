"""TensorBoard answers whoever asks for this machine by its own name, and no page that has taken another one."""

import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job.system import tensorboard_server
from job.system.tensorboard_server import for_this_machine


def asked(host: str | None) -> tuple[str, bytes]:
    """Status and body of the answer to a request with this Host header."""
    statuses: list[str] = []

    def application(_environment: dict, start_response) -> list[bytes]:
        start_response("200 OK", [])
        return [b"curves"]

    environment = {} if host is None else {tensorboard_server.HOST: host}
    body = b"".join(for_this_machine(application)(environment, lambda status, _: statuses.append(status)))
    return statuses[0], body


@pytest.mark.parametrize("host", ["localhost", "localhost:6006", "LOCALHOST:6006", "127.0.0.1", "127.0.0.1:16006", "[::1]:6006"])
def test_its_own_names_are_answered_at_any_port(host):
    assert asked(host) == ("200 OK", b"curves")


@pytest.mark.parametrize("host", [
    "rebound.example", "rebound.example:6006", "localhost.rebound.example", "127.0.0.1.rebound.example", "192.168.1.7:6006",
    "localhost@rebound.example", "", None, "[::1", "[x]:6006",
])  # fmt: skip
def test_every_other_name_is_refused_with_what_to_do(host):
    status, body = asked(host)
    assert status == "403 Forbidden"
    assert b"ssh -L 6006:localhost:6006" in body
    assert b"curves" not in body


@pytest.mark.slow
def test_tensorboard_itself_is_behind_it(tmp_path):
    """As the container runs it: by its path, from another folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(tensorboard_server.__file__)
    command = [sys.executable, "-P", script, "--logdir", tmp_path, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as server:
        try:
            assert [status_of(port, host) for host in ("localhost", "rebound.example")] == [200, 403]
        finally:
            server.terminate()


def status_of(port: int, host: str) -> int:
    """What it answers to a request for this host, once it is up."""
    end = time.monotonic() + 120
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/data/environment", headers={"Host": host})
            return connection.getresponse().status
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        finally:
            connection.close()
