"""The server on a real socket: what is no request, what is too much, and clients that go away."""

import http.client
import json
import socket
import threading
import time
from contextlib import closing

import pytest

from job.errors import DataError, SettingsError
from job.serving.http import Refused, Reply, Server


def echo(request):
    return Reply.of({"method": request.method, "path": request.path, "query": request.query, "body": request.json()})


def talk(port, raw: bytes) -> bytes:
    """All that the server sends back on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def post(port, body: bytes, kind="application/json"):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/a%20b?c=d%26", body, {"Content-Type": kind})
        reply = connection.getresponse()
        return reply, json.loads(reply.read())


def test_a_request_arrives_as_it_was_sent(listening):
    reply, said = post(listening(echo), '{"ä": [1]}'.encode())
    assert reply.status == 200
    assert said == {"method": "POST", "path": "/a b", "query": {"c": "d&"}, "body": {"ä": [1]}}
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert "Python" not in reply.headers["Server"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400), (b"[1]", "application/json", 400), (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400), (b"{}", "text/plain", 415), (b"{}", "application/json; charset=utf-8", 200),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_told(listening, body, kind, status):
    reply, said = post(listening(echo), body, kind)
    assert reply.status == status
    assert status == 200 or said["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", b"400"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"501"),
    ],
)
def test_what_is_no_proper_request_is_answered_and_the_connection_closed(listening, raw, status):
    said = talk(listening(echo), raw)
    assert said.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_a_body_that_was_not_read_is_no_second_request(listening):
    def refuse(request):
        raise Refused(413, "too long")

    body = b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n"
    said = talk(listening(refuse), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert said.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(("mib", "status"), [(2, 413), (2, 429), (80, 401), (80, 413)])
def test_a_refusal_is_read_whatever_body_was_sent(listening, mib, status):
    def refuse(request):
        raise Refused(status, f"{request.length} bytes are refused")

    reply, said = post(listening(refuse), bytes(mib * 2**20))
    assert (reply.status, said["error"]["message"]) == (status, f"{mib * 2**20} bytes are refused")


def test_who_sends_on_without_an_end_is_not_read_for_ever(listening, monkeypatch):
    def refuse(request):
        raise Refused(413, "too long")

    monkeypatch.setattr("job.serving.http.DISCARDED_BYTES", 2**20)
    with socket.create_connection(("127.0.0.1", listening(refuse)), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % 10**15)
        with pytest.raises(ConnectionError):
            connection.sendall(bytes(2**29))


@pytest.mark.parametrize(("error", "status"), [(DataError("the table is wrong"), 500), (ValueError("secret"), 500)])
def test_whatever_goes_wrong_is_a_reply_and_no_traceback_goes_out(listening, error, status):
    def fail(request):
        raise error

    reply, said = post(listening(fail), b"{}")
    assert reply.status == status
    assert ("secret" in said["error"]["message"]) is False
    assert isinstance(error, ValueError) or said["error"]["message"] == "the table is wrong"


def test_several_requests_share_a_connection_and_parts_are_sent_as_they_come(listening):
    may_go, finished = threading.Event(), threading.Event()

    def answer(request):
        def parts():
            yield b"a"
            assert may_go.wait(10)
            yield b"b"

        return Reply(parts(), "text/plain", finish=finished.set) if request.path == "/parts" else Reply.of(1)

    with closing(http.client.HTTPConnection("127.0.0.1", listening(answer), timeout=10)) as connection:
        for _ in range(3):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"1"
        connection.request("GET", "/parts")
        reply = connection.getresponse()
        assert reply.read(1) == b"a"
        assert not finished.is_set()
        may_go.set()
        assert reply.read() == b"b"
        assert finished.wait(10)


def test_a_client_that_goes_away_is_noticed_and_its_reply_finished(listening):
    noticed, finished = threading.Event(), threading.Event()

    def wait(request):
        for _ in range(1000):
            if request.is_gone():
                noticed.set()
                break
            time.sleep(0.01)
        return Reply(iter([b"x" * 2**20] * 20), finish=finished.set)

    with socket.create_connection(("127.0.0.1", listening(wait))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        assert not noticed.is_set()
    assert noticed.wait(10)
    assert finished.wait(10)


def test_more_connections_than_may_be_are_closed_and_those_that_are_there_answered(listening):
    port = listening(echo, connections=2)
    first = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as third:
        assert third.recv(1) == b""
    first[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    assert first[0].recv(65536).startswith(b"HTTP/1.1 200")
    for connection in first:
        connection.close()


def test_an_address_that_is_taken_is_told(listening):
    port = listening(echo)
    with pytest.raises(SettingsError, match=rf"SERVE_HOST=127.0.0.1, SERVE_PORT={port}: .*in use. Set another address or port."):
        Server(("127.0.0.1", port), echo, 1)


@pytest.fixture
def stoppable():
    """Starts servers that the test itself stops."""

    def start(answer):
        server = Server(("127.0.0.1", 0), answer, 64)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    return start


def test_after_a_stop_what_is_being_answered_is_finished_and_more_is_refused(stoppable):
    has_begun, may_go = threading.Event(), threading.Event()

    def answer(request):
        if request.path == "/slow":
            has_begun.set()
            assert may_go.wait(10)
        return Reply.of("answered")

    server = stoppable(answer)
    slow, kept = (http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10) for _ in range(2))
    with closing(slow), closing(kept):
        kept.request("GET", "/")
        assert kept.getresponse().read() == b'"answered"'
        slow.request("GET", "/slow")
        assert has_begun.wait(10)
        server.stop()
        kept.request("POST", "/", b"{}")
        refused = kept.getresponse()
        assert (refused.status, refused.headers["Retry-After"], refused.headers["Connection"]) == (503, "10", "close")
        assert "being stopped" in json.loads(refused.read())["error"]["message"]
        assert not server.drain(0)
        may_go.set()
        answered = slow.getresponse()
        assert (answered.status, answered.headers["Connection"], answered.read()) == (200, "close", b'"answered"')
        assert server.drain(10)


def test_a_stop_comes_to_its_end_while_clients_go_on_asking(stoppable):
    server, last = stoppable(lambda _request: time.sleep(0.05) or Reply.of(1)), []

    def ask_on():
        with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)) as connection:
            is_last = False
            while not is_last:
                connection.request("GET", "/")
                reply = connection.getresponse()
                is_last = reply.will_close
                reply.read()
            last.append(reply.status)

    clients = [threading.Thread(target=ask_on, daemon=True) for _ in range(8)]
    for client in clients:
        client.start()
        time.sleep(0.01)
    server.stop()
    assert server.drain(2)
    for client in clients:
        client.join(10)
    assert len(last) == len(clients)
    assert set(last) <= {200, 503}


def test_a_server_waits_for_what_is_being_answered(listening):
    server = Server(("127.0.0.1", 0), echo, 1)
    with server.counted():
        assert not server.drain(0.05)
    assert server.drain(0)
    server.server_close()
