"""TensorBoard that answers to this machine's own names alone. Takes TensorBoard's options.

It has no login. Whatever page a browser shows may ask it under a name that the page's owner has pointed at 127.0.0.1 (DNS
rebinding), and would read the curves and answers; such a request names a host that is not this one.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from tensorboard import default, main_lib, program

HOST = "HTTP_HOST"
"""What WSGI calls the Host header."""
OWN_NAMES = ("localhost", "127.0.0.1", "::1")
REFUSAL = b"TensorBoard answers on http://localhost alone. From elsewhere: ssh -L 6006:localhost:6006 USER@MACHINE\n"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""What WSGI calls so."""


def for_this_machine(application: Application) -> Application:
    """`application`, but 403 for a request that was sent to another name."""

    def answer(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _name(environment.get(HOST, "")) in OWN_NAMES:
            return application(environment, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", str(len(REFUSAL)))])
        return [REFUSAL]

    return answer


def _name(host: str) -> str | None:
    """The name in a Host header, without its port; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def main() -> int:
    main_lib.global_init()
    server = program.TensorBoard(
        plugins=default.get_plugins(),
        server_class=lambda application, flags: program.create_port_scanning_werkzeug_server(for_this_machine(application), flags),
    )
    server.configure(sys.argv)
    return int(server.main() or 0)


if __name__ == "__main__":
    sys.exit(main())
