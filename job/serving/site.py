"""Which request is answered by what, and what it must bring: a name of this machine, the token, a body that is not too long."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from job.serving.batches import Batches
from job.serving.guard import check_host, check_origin, check_token
from job.serving.http import Refused, Reply, Request
from job.serving.openai import Completions
from job.serving.page import FILES, Page, file
from job.serving.tables import MOST_BYTES, Tables

MOST_JSON_BYTES = 2**20


@dataclass(frozen=True)
class Route:
    """What answers one method of a path."""

    answer: Callable[[Request], Reply]
    method: str = "GET"
    most_bytes: int = 0
    is_open: bool = False
    """Whether it is answered without the token."""


@dataclass(frozen=True)
class Site:
    """All that is answered."""

    page: Page
    completions: Completions
    tables: Tables
    batches: Batches
    names: Collection[str] = ()
    """This machine's, beside localhost."""
    token: str | None = field(default=None, repr=False)

    def answer(self, request: Request) -> Reply:
        """The reply to `request`. Raises Refused."""
        check_host(request, self.names)
        check_origin(request)
        routes = self._routes(request.path)
        if not routes:
            raise Refused(404, f"Nothing is at {request.path[:80]}.", "not_found")
        method = "GET" if request.method == "HEAD" else request.method
        route = next((route for route in routes if route.method == method), None)
        if route is None:
            raise Refused(405, f"{request.method} is not answered there.", Allow=", ".join(route.method for route in routes))
        if not route.is_open:
            check_token(request, self.token)
        if request.length > route.most_bytes:
            raise Refused(413, f"A body of {request.length} bytes; at most {route.most_bytes} are read.", "too_large")
        return route.answer(request)

    def health(self, _request: Request) -> Reply:
        """GET /healthz: 200 as long as somebody answers."""
        alive = self.batches.is_alive
        content = {"status": "ok" if alive else "the model's thread has ended", "waiting": self.batches.waiting}
        return Reply.of(content, 200 if alive else 503)

    def _routes(self, path: str) -> list[Route]:
        if path in FILES:
            return [Route(file, is_open=True)]
        if path.startswith("/v1/models/"):
            return [Route(self.completions.model)]
        if path.startswith("/api/tables/"):
            return [Route(self.tables.download)]
        return {
            "/healthz": [Route(self.health, is_open=True)],
            "/v1/models": [Route(self.completions.models)],
            "/v1/completions": [Route(self.completions.complete, "POST", MOST_JSON_BYTES)],
            "/v1/chat/completions": [Route(self.completions.chat, "POST", MOST_JSON_BYTES)],
            "/api/about": [Route(self.page.about)],
            "/api/rows": [Route(self.page.held_out)],
            "/api/ask": [Route(self.page.ask, "POST", MOST_JSON_BYTES)],
            "/api/tables": [Route(self.tables.upload, "POST", MOST_BYTES)],
        }.get(path, [])
