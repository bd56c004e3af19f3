"""`pytest tests/gpu --pretend T4` takes a card that is not there for the GPU."""

import contextlib

import pytest

from tests.pretended_gpu import CARDS, pretended

held = contextlib.ExitStack()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pretend", choices=CARDS, help="a card to pretend")


def pytest_configure(config: pytest.Config) -> None:
    if card := config.getoption("--pretend"):
        held.enter_context(pretended(card))


def pytest_unconfigure() -> None:
    held.close()
