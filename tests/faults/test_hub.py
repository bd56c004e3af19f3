"""A hub on the loopback that misbehaves on demand: what is tried again, what is not, and what a person reads."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import checked
from tests.faults.conftest import ROOT

pytestmark = pytest.mark.slow
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import os, sys, torch
from job.errors import JobError
from job.model.answering import load_own_config
from job.model.load import BaseModel, load_base, load_config

def load(base):
    try:
        load_own_config(base, load_config(base))
        load_base(base, True, torch.float32, None, "cpu")
    except JobError as error:
        return error.exit_code, str(error)
    return 0, "loaded"

children = []
for name in sys.argv[1:]:
    children.append(os.fork())
    if not children[-1]:
        code, said = load(BaseModel(f"someone/{name}"))
        with open(f"said-{name}", "w") as file:
            file.write(said)
        os._exit(code)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
"""A process each that has imported nothing by itself."""
OF_GENERATION_CONFIG = {"older": (404, {"X-Error-Code": "EntryNotFound"}), "half": (503,), "denied": (403,)}
"""What a hub answers that has the rest of the model."""


class Hub(ThreadingHTTPServer):
    """Serves the files of one folder as the model `someone/NAME`; NAME says how it misbehaves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.dropped = folder, Counter(), 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        _, _, name, *rest = self.path.partition("?")[0].split("/")
        if self.path.startswith("/api/"):
            return self._answer(404)
        self.server.asked[name] += 1
        count, path = self.server.asked[name], self.server.folder / rest[-1]
        if name == "gated":
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if name == "missing":
            return self._answer(404, {"X-Error-Code": "RepoNotFound"})
        if path.name == "generation_config.json" and name in OF_GENERATION_CONFIG:
            return self._answer(*OF_GENERATION_CONFIG[name])
        if name == "down" or (name == "shaky" and count <= 2):
            return self._answer(503)
        if not path.is_file():
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        drop = path.suffix == ".safetensors" and (name == "broken" or (name == "dropping" and not self.server.dropped))
        return self._send(path, drop)

    do_HEAD = do_GET  # noqa: N815  http.server calls it so

    def _send(self, path: Path, drop: bool) -> None:
        """The file, or what of it a Range asks for; only half of it where it is to `drop`."""
        content = path.read_bytes()
        begin = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if begin else 200)
        for name, value in {
            "Content-Length": len(content) - begin, "Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}",
            "ETag": f'"{path.name}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes",
        }.items():  # fmt: skip
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        if drop:
            self.server.dropped += 1
            self.wfile.write(content[begin : len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content[begin:])

    def _answer(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": "0", "X-Repo-Commit": COMMIT} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub(t5_folder) -> Iterator[Hub]:
    with Hub(t5_folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def outcomes(hub, tmp_path_factory) -> dict[str, tuple[int, str]]:
    """What loading a model from each kind of hub ends with: exit code, what is said."""
    folder = tmp_path_factory.mktemp("hub")

    def load(*names: str, **more: str) -> list[tuple[int, str]]:
        environment = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
        environment |= checked({"HF_ENDPOINT": hub.url, "HF_HOME": folder / "cache"} | more) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", LOAD, *names]
        ended = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return [(int(code), (folder / f"said-{name}").read_text()) for name, code in zip(names, ended.stdout.split(), strict=True)]

    names = ("fine", "gated", "missing", "shaky", "dropping", "broken", "down", *OF_GENERATION_CONFIG)
    found = dict(zip(names, load(*names), strict=True))
    offline = load("fine", "older", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    return found | dict(zip(("offline", "older offline"), offline, strict=True))


@pytest.mark.parametrize("name", ["fine", "shaky", "dropping", "offline", "older", "older offline"])
def test_trouble_that_passes_is_survived(outcomes, name):
    assert outcomes[name] == (0, "loaded")


def test_a_hub_that_does_not_say_how_the_model_answers_is_not_taken_for_one_that_has_no_such_file(outcomes):
    assert outcomes["half"][0] == 138, outcomes["half"]
    assert outcomes["denied"][0] == 77, outcomes["denied"]


def test_downloads_that_always_break_off_are_138(outcomes, hub):
    code, said = outcomes["broken"]
    assert code == 138
    assert "MODEL_ID=someone/broken: the hub cannot be reached" in said
    assert hub.dropped >= 5


def test_trouble_that_stays_is_tried_again_and_then_138(outcomes, hub):
    code, said = outcomes["down"]
    assert code == 138
    assert "MODEL_ID=someone/down: the hub cannot be reached" in said
    assert hub.asked["down"] >= 5


def test_a_gated_model_names_the_page_where_access_is_asked_for(outcomes, hub):
    code, said = outcomes["gated"]
    assert code == 77
    assert f"Ask for access on {hub.url}/someone/gated and set HF_TOKEN." in said


def test_a_model_that_is_not_there_is_not_asked_for_again(outcomes, hub):
    code, said = outcomes["missing"]
    assert code == 66
    assert "has no such repository" in said
    assert hub.asked["missing"] <= 4
