"""What connections between machines need and their libraries don't give them."""

import contextlib
import os
import socket
from pathlib import Path

import psutil

IDLE_S, ASK_EVERY_S, ASKED = 60, 20, 6
"""After so long without a word the other end is asked for a sign of life, so often: three minutes in all."""
KEPT_ALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): IDLE_S,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): ASK_EVERY_S,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): ASKED,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 1000 * (IDLE_S + ASKED * ASK_EVERY_S),
}
"""Options of a connection; the last, in milliseconds, is for one on which something was sent."""
INTERFACE = "GLOO_SOCKET_IFNAME"
THIS_MACHINE = ("", "localhost", "127.0.0.1", "::1")
ELSEWHERE = "192.0.2.1"
"""An address that no machine has (RFC 5737): what leads to it leads out of this one. Nothing is sent there."""


def notice_lost_machines() -> None:
    """Has the TCP connections that this process has now fail three minutes after the machine at their other end has vanished.

    Without that a process waits for one that lost its power for ever: neither gloo nor torch's store asks.
    """
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if not str(link.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(link.name))) as connection:
                if connection.type == socket.SOCK_STREAM and connection.family in (socket.AF_INET, socket.AF_INET6):
                    for option, value in KEPT_ALIVE.items():
                        connection.setsockopt(*option, value)


def announce_reachable_address(master: str) -> None:
    """Has gloo tell the others an address that leads here, where this machine's own name is its loopback's (Debian's /etc/hosts).

    master: name or address of machine 0. What a person set in GLOO_SOCKET_IFNAME stays.
    """
    with contextlib.suppress(OSError):
        if INTERFACE in os.environ or master in THIS_MACHINE or not _is_loopback(socket.gethostbyname(socket.gethostname())):
            return
        own = _address_towards(master)
        if interface := _interface_of(_address_towards(ELSEWHERE) if _is_loopback(own) else own):
            os.environ[INTERFACE] = interface


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")


def _address_towards(host: str) -> str:
    """That of this machine on the way to `host`. Raises OSError if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.connect((host, 1))
        return connection.getsockname()[0]


def _interface_of(address: str) -> str | None:
    interfaces = psutil.net_if_addrs().items()
    return next((name for name, addresses in interfaces if address in (one.address for one in addresses)), None)
