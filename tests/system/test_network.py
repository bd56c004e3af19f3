"""Connections between machines: one whose other end has vanished is found dead, and a machine is found where others look for it."""

import os
import socket

import pytest

from job.system import network
from job.system.network import INTERFACE, KEPT_ALIVE, announce_reachable_address, notice_lost_machines
from tests.system.test_ranks import run_two


def options_of(connection: socket.socket) -> dict:
    return {option: connection.getsockopt(*option) for option in KEPT_ALIVE}


def test_all_connections_of_a_process_are_asked_for_signs_of_life_and_stay_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            notice_lost_machines()
            assert [options_of(one) for one in (client, accepted)] == [KEPT_ALIVE] * 2
            client.sendall(b"x")
            assert accepted.recv(1) == b"x"


def test_the_connections_of_ranks_that_have_met_are_among_them():
    code = """
import os, socket
from pathlib import Path
ranks.join('cpu')
kept = set()
for link in Path('/proc/self/fd').iterdir():
    try:
        one = socket.socket(fileno=os.dup(int(link.name)))
        one.getpeername()
    except OSError:
        continue
    if one.family in (socket.AF_INET, socket.AF_INET6):
        kept.add(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
ranks.gather(0)
print(kept)
"""
    assert run_two(code) == [(0, "{1}\n")] * 2


@pytest.fixture
def towards(monkeypatch) -> dict[str, str]:
    """This machine's address on the way to others; its own name is its loopback's."""
    found = {network.ELSEWHERE: "10.0.0.7"}
    monkeypatch.delenv(INTERFACE, raising=False)
    monkeypatch.setattr(network.socket, "gethostbyname", lambda _name: "127.0.1.1")
    monkeypatch.setattr(network, "_address_towards", found.__getitem__)
    monkeypatch.setattr(network, "_interface_of", {"10.0.0.7": "eth0", "10.0.0.8": "eth1"}.get)
    return found


@pytest.mark.parametrize(("own", "expected"), [("10.0.0.8", "eth1"), ("127.0.0.1", "eth0")])
def test_a_machine_named_as_its_loopback_is_announced_by_what_leads_to_the_first_or_out(towards, own, expected):
    towards["first.example"] = own
    announce_reachable_address("first.example")
    assert os.environ.pop(INTERFACE) == expected


def test_what_a_person_chose_stays_and_one_machine_alone_needs_nothing(towards, monkeypatch):
    announce_reachable_address("127.0.0.1")
    assert INTERFACE not in os.environ
    monkeypatch.setenv(INTERFACE, "ib0")
    announce_reachable_address("first.example")
    assert os.environ[INTERFACE] == "ib0"


def test_the_interface_of_the_way_out_is_one_of_this_machine():
    try:
        address = network._address_towards(network.ELSEWHERE)
    except OSError:
        pytest.skip("this machine has no way out")
    assert network._interface_of(address) in {name for _, name in socket.if_nameindex()}
