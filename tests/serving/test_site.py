"""Which request is answered by what, and what it must bring."""

import http.client
import json
from contextlib import closing
from dataclasses import replace

import pytest

from job.serving.http import Refused

OPEN = ["/", "/page.js", "/page.css", "/style.css", "/healthz"]
CLOSED = ["/v1/models", "/v1/models/r", "/api/about", "/api/rows?order=all"]


def test_the_health_says_whether_somebody_answers(ask, site, monkeypatch):
    assert ask("GET", "/healthz") == (200, {"status": "ok", "waiting": 0})
    monkeypatch.setattr(type(site.batches), "is_alive", False)
    assert ask("GET", "/healthz")[0] == 503


def test_with_a_token_all_that_is_of_the_run_needs_it(site, request_for):
    site = replace(site, token="s3cret")
    assert "s3cret" not in repr(site)
    for path in OPEN:
        assert site.answer(request_for("GET", path)).status == 200
    for path in CLOSED:
        with pytest.raises(Refused) as refused:
            site.answer(request_for("GET", path))
        assert refused.value.reply.status == 401
        assert site.answer(request_for("GET", path, authorization="Bearer s3cret")).status == 200


@pytest.mark.parametrize("path", [*OPEN, *CLOSED])
def test_nothing_is_answered_under_a_foreign_name(site, request_for, path):
    with pytest.raises(Refused) as refused:
        site.answer(request_for("GET", path, host="evil.example"))
    assert refused.value.reply.status == 421


def test_what_is_not_there_and_what_cannot_be_done_there_are_told(ask):
    assert ask("GET", "/favicon.ico")[0] == ask("GET", "/../etc/passwd")[0] == ask("GET", "/v1")[0] == 404
    assert ask("GET", "/v1/completions")[0] == ask("DELETE", "/")[0] == ask("POST", "/healthz")[0] == 405


@pytest.mark.parametrize(("path", "most"), [("/v1/completions", 2**20), ("/api/ask", 2**20), ("/api/tables?name=a.csv", 2**26)])
def test_a_body_that_is_too_long_is_not_read(site, request_for, path, most):
    request = replace(request_for("POST", path), length=most + 1, read=lambda: pytest.fail("it was read"))
    with pytest.raises(Refused) as refused:
        site.answer(request)
    assert refused.value.reply.status == 413


@pytest.mark.parametrize(
    ("path", "mib", "header", "status", "said"),
    [
        ("/v1/completions", 2, {}, 413, "at most 1048576 are read"),
        ("/api/tables?name=a.csv", 80, {}, 413, "at most 67108864 are read"),
        ("/api/tables?name=a.csv", 60, {"Origin": "http://evil.example"}, 403, "other origins"),
        ("/api/tables?name=a.csv", 60, {}, 401, "SERVE_TOKEN"),
    ],
)
def test_who_sends_a_body_that_is_refused_reads_why(site, listening, path, mib, header, status, said):
    port = listening(replace(site, token="s3cret").answer)
    header = {"Authorization": "Bearer s3cret"} | header if status != 401 else header
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", path, bytes(mib * 2**20), {"Content-Type": "application/json"} | header)
        reply = connection.getresponse()
        assert reply.status == status
        assert said in json.loads(reply.read())["error"]["message"]
