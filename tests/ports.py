"""Ports for what tests start."""

import socket


def free_port() -> int:
    """One that nobody uses."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
