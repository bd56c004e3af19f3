"""A small HTTP server: requests checked and bounded, replies as JSON, a thread a connection. It knows nothing of models."""

import json
import logging
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from job.errors import JobError, SettingsError

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 30
"""Seconds that a client may be silent in the middle of a request, or between two."""
DISCARDED_BYTES, DISCARD_S, DISCARD_SILENT_S = 256 * 2**20, 10, 2
"""How much of a body that is not wanted is read after the reply, for how long, and how long a client may be silent meanwhile."""
STOPPED_FOR_S = 10
"""After so many seconds who is refused because of a stop may ask again: another server may be there then."""
JSON = "application/json"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every reply: a page of ours loads nothing but what this server has, and nobody frames it."""


@dataclass(frozen=True)
class Reply:
    """What goes back."""

    content: bytes | Iterator[bytes]
    """An iterator's parts are sent as they come."""
    kind: str = JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    finish: Callable[[], None] = lambda: None
    """Called once all was sent, or cannot be."""

    @classmethod
    def of(cls, content: object, status: int = 200, **headers: str) -> "Reply":
        """`content` as JSON."""
        return cls(json.dumps(content, ensure_ascii=False).encode(errors="replace"), status=status, headers=headers)


class Refused(Exception):
    """A request that is not answered, in the shape that OpenAI's clients understand."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> None:
        super().__init__(message)
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.reply = Reply.of(self.content, status, **headers)


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    length: int
    read: Callable[[], bytes]
    """The body, which is not read before it is wanted."""
    is_gone: Callable[[], bool]
    """Whether the client has closed the connection."""

    def json(self) -> dict[str, Any]:
        """The body, an object. Raises Refused."""
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise Refused(415, f"Content-Type {JSON} was expected.")
        try:
            content = json.loads(self.read())
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"The body is no JSON: {error}.") from None
        if not isinstance(content, dict):
            raise Refused(400, "The body is no JSON object.")
        return content


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version, timeout = "HTTP/1.1", READ_TIMEOUT_S
    server: "Server"

    def do_GET(self) -> None:
        """Replies to what was asked; whatever goes wrong is a reply too, and never the server's end."""
        self.unread = 0
        with self.server.counted():
            try:
                reply = self._reply()
                try:
                    self._send(reply)
                finally:
                    reply.finish()
                self._discard_unread()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

    do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _reply(self) -> Reply:
        try:
            request = self._request()
            if self.server.is_stopping:
                message = "The server is being stopped. Ask again later."
                raise Refused(503, message, "server_stopping", Retry_After=str(STOPPED_FOR_S))
            return self.server.answer(request)
        except Refused as refused:
            return refused.reply
        except JobError as error:
            return Refused(500, str(error)).reply
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("a bug in lora-job: %s %s", self.command, urlsplit(self.path).path)
            return Refused(500, "A bug in lora-job; its log has the traceback.").reply

    def _request(self) -> Request:
        if "Transfer-Encoding" in self.headers:
            self.unread = DISCARDED_BYTES
            raise Refused(411, "Send the body with a Content-Length.")
        given = self.headers.get("Content-Length", "0").strip()
        if not (given.isascii() and given.isdecimal()) or len(self.headers.get_all("Content-Length", ())) > 1:
            self.unread = DISCARDED_BYTES
            raise Refused(400, "Content-Length is no number.")
        self.unread = int(given)
        address = urlsplit(self.path)
        return Request(
            self.command, unquote(address.path), dict(parse_qsl(address.query)),
            {name.lower(): value for name, value in self.headers.items()}, self.unread, self._read, self._is_gone,
        )  # fmt: skip

    def _read(self) -> bytes:
        content, self.unread = self.rfile.read(self.unread), 0
        return content

    def _is_gone(self) -> bool:
        watched = select.poll()
        watched.register(self.connection, select.POLLIN)
        try:
            return bool(watched.poll(0)) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def _send(self, reply: Reply) -> None:
        self.close_connection |= self.unread > 0 or self.server.is_stopping or not isinstance(reply.content, bytes)
        self.send_response(reply.status)
        for name, value in {**HEADERS, **reply.headers, "Content-Type": reply.kind}.items():
            self.send_header(name.replace("_", "-"), value)
        if isinstance(reply.content, bytes):
            self.send_header("Content-Length", str(len(reply.content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        for part in [reply.content] if isinstance(reply.content, bytes) else reply.content:
            self.wfile.write(part)
            self.wfile.flush()

    def _discard_unread(self) -> None:
        """Reads what the client still sends, within bounds: to close before that resets the connection, and the reply is lost."""
        if not self.unread:
            return
        left, end = min(self.unread, DISCARDED_BYTES), time.monotonic() + DISCARD_S
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(DISCARD_SILENT_S)
            while left > 0 and time.monotonic() < end and (part := self.rfile.read1(2**16)):
                left -= len(part)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses: a line that is no request, too many headers."""
        self.unread = DISCARDED_BYTES
        self.command, self.request_version = self.command or "GET", self.protocol_version  # to 0.9 no status would be sent
        self._send(Refused(code, message or explain or "The request is malformed.").reply)
        self._discard_unread()

    def version_string(self) -> str:
        """Who answers: no versions that would tell an attacker what to try."""
        return "lora-job"

    def log_message(self, *_: Any) -> None:
        """A line a request, for LOG_LEVEL=debug; without the query, which may hold what a person searched for."""
        log.debug("%s %s", self.command, urlsplit(getattr(self, "path", "")).path)


class Server(ThreadingHTTPServer):
    """Listens, and calls `answer` in a thread of each connection."""

    daemon_threads, block_on_close, request_queue_size = True, False, 256

    def __init__(self, address: tuple[str, int], answer: Callable[[Request], Reply], connections: int) -> None:
        """connections: that may be open at once; more are closed. Raises SettingsError where the address cannot be had."""
        self.answer, self._slots = answer, threading.BoundedSemaphore(connections)
        self._active, self._idle = 0, threading.Condition()
        self.is_stopping = False
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, Handler)
        except OSError as error:
            raise SettingsError(
                f"SERVE_HOST={address[0]}, SERVE_PORT={address[1]}: {error.strerror or error}. Set another address or port."
            ) from None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """While this holds, a request is being answered."""
        with self._idle:
            self._active += 1
        try:
            yield
        finally:
            with self._idle:
                self._active -= 1
                self._idle.notify_all()

    def stop(self) -> None:
        """No connection is taken any more; on those that are open, further requests are refused and each reply is the last."""
        self.is_stopping = True
        self.shutdown()
        self.server_close()

    def drain(self, timeout_s: float) -> bool:
        """Waits until no request is being answered; whether that came to be in time."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._active, timeout_s)

    def server_bind(self) -> None:
        """Takes the address, without the look-up of its name that http.server does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for this connection, if there is a slot."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread; gives its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """What ended a connection in the middle of a reply."""
        log.exception("a bug in lora-job ended a connection of %s", client_address[0])
