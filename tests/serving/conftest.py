"""A site that answers for a finished run, in this process, with and without a server in front of it."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from job.commands.serve import make_site
from job.config.settings import Settings
from job.serving.http import Refused, Reply, Request, Server
from job.serving.site import Site

ASKED = "the 3 of June"


@pytest.fixture(scope="session")
def site(pristine_run: tuple[dict, Path]) -> Iterator[Site]:
    """That of a run that no test may change."""
    made = site_of(*pristine_run)
    yield made
    made.tables.close()


def site_of(variables: dict, folder: Path) -> Site:
    """That of the run which these variables, in this folder, have made."""
    return make_site(
        Settings(
            **{name.lower(): value for name, value in variables.items()} | {"model_id": str(variables["MODEL_ID"])},
            output_dir=folder / "output", logs_dir=folder / "logs", device="cpu", serve_queue=64,
        )
    )  # fmt: skip


@pytest.fixture
def request_for() -> Callable[..., Request]:
    """Makes requests as a client on this machine sends them: (method, path, body, further headers)."""

    def make(method: str, path: str, body: Any = None, is_gone: bool = False, **headers: str) -> Request:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        usual = {"host": "localhost:8000", "content-type": "application/json"}
        address, _, query = path.partition("?")
        pairs = dict(part.split("=", 1) for part in query.split("&") if part)
        given = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        return Request(method, address, pairs, given, len(content), lambda: content, lambda: is_gone)

    return make


@pytest.fixture
def ask(site: Site, request_for: Callable[..., Request]) -> Callable[..., tuple[int, Any]]:
    """What the site replies to a request: (status, the JSON of its body)."""

    def call(*arguments: Any, **headers: Any) -> tuple[int, Any]:
        try:
            reply = site.answer(request_for(*arguments, **headers))
        except Refused as refused:
            reply = refused.reply
        try:
            return reply.status, json.loads(body_of(reply))
        finally:
            reply.finish()

    return call


def body_of(reply: Reply) -> bytes:
    """All that is sent."""
    return reply.content if isinstance(reply.content, bytes) else b"".join(reply.content)


@pytest.fixture
def listening() -> Iterator[Callable[..., int]]:
    """Starts servers with the given `answer`: the port of each."""
    started: list[Server] = []

    def start(answer: Callable[[Request], Reply], connections: int = 64) -> int:
        server = Server(("127.0.0.1", 0), answer, connections)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        started.append(server)
        return server.server_port

    yield start
    for server in started:
        server.shutdown()
        server.server_close()
