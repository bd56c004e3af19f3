"""Who is answered: names of this machine, pages of this server, and who has the token."""

import pytest

from job.serving.guard import check_host, check_origin, check_token
from job.serving.http import Refused


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7", "gpu1"]
)
def test_a_request_to_this_machine_passes(request_for, host):
    check_host(request_for("GET", "/", host=host), ("gpu1",))


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8000", "evil.example@localhost.x", "", "[", "gpu1.evil.example"]
)
def test_a_name_that_somebody_else_lets_point_here_does_not(request_for, host):
    with pytest.raises(Refused) as refused:
        check_host(request_for("GET", "/", host=host), ("gpu1",))
    assert refused.value.reply.status == 421


def test_pages_of_other_origins_are_not_answered(request_for):
    check_origin(request_for("POST", "/", host="localhost:8000", origin="http://localhost:8000", sec_fetch_site="same-origin"))
    check_origin(request_for("POST", "/"))
    for headers in (
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:9999"},
        {"sec_fetch_site": "cross-site"},
    ):  # fmt: skip
        with pytest.raises(Refused) as refused:
            check_origin(request_for("POST", "/", **headers))
        assert refused.value.reply.status == 403


def test_with_a_token_only_who_sends_it_is_answered(request_for):
    check_token(request_for("GET", "/"), None)
    check_token(request_for("GET", "/", authorization="Bearer höflich"), "höflich")
    for headers in ({}, {"authorization": "Bearer falsch"}, {"authorization": "höflich"}, {"authorization": "Basic höflich"}):
        with pytest.raises(Refused) as refused:
            check_token(request_for("GET", "/", **headers), "höflich")
        assert refused.value.reply.status == 401
        assert "höflich" not in str(refused.value.content)
