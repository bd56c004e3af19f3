"""Who may ask: this machine's names, no foreign page in a browser, and with a token only who has it."""

import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from job.serving.http import Refused, Request


def check_host(request: Request, names: Collection[str]) -> None:
    """Raises Refused unless the request was sent to this server by one of `names`, localhost, or an address.

    A foreign page whose name an attacker lets point here (DNS rebinding) sends that name.
    """
    given = request.headers.get("host", "")
    name = _host_name(given)
    if not (name == "localhost" or name in {known.lower() for known in names} or _is_address(name)):
        raise Refused(421, f'Host "{given[:80]}" is not served. Ask by localhost, or add the name to SERVE_NAMES.', "unknown_host")


def check_origin(request: Request) -> None:
    """Raises Refused for what a page of another origin makes a browser send."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    if foreign or request.headers.get("sec-fetch-site") == "cross-site":
        raise Refused(403, "Pages of other origins are not answered.", "foreign_origin")


def check_token(request: Request, token: str | None) -> None:
    """Raises Refused unless the request has the token, where there is one."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and not (scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())):
        raise Refused(401, "Send SERVE_TOKEN as `Authorization: Bearer ...`.", "invalid_api_key", WWW_Authenticate="Bearer")


def _host_name(host: str) -> str:
    """The name of a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
