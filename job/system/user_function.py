"""A person's own Python function, from `file.py:function`."""

import contextlib
import os
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from job.errors import SettingsError
from job.system.signals import stop_signals


def load_function(spec: str, variable: str) -> Callable:
    """The function that `spec`, "file.py:function", names. Raises SettingsError if there is none."""
    path, _, name = spec.rpartition(":")
    if not Path(path).is_file():
        raise SettingsError(f"{variable}={spec}: no such file as {path}. Check the path.")
    loader = SourceFileLoader(Path(path).stem, path)
    module = ModuleType(loader.name)
    module.__file__ = path
    with own_errors(f"{variable}={spec}: importing {path}", ". Fix the file."):
        loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise SettingsError(f"{variable}={spec}: {path} has no function {name}. Check the name.")
    return function


@contextlib.contextmanager
def own_errors(what: str, rest: str) -> Iterator[None]:
    """Raises SettingsError for whatever a person's own code raises inside, sys.exit(0) too: it is no end of the job.

    what, rest: of the message, before and after what was raised. A stop signal stays one.
    """
    try:
        with _exits_raised():
            yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and stop_signals.received:
            raise
        raise SettingsError(f"{what} raised {describe(error)}{rest}") from error


@contextlib.contextmanager
def _exits_raised() -> Iterator[None]:
    """os._exit raises SystemExit inside, where it would end the job with its own exit code; processes forked there end by it."""
    exit_at_once, here = os._exit, os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() == here:
            raise SystemExit(status)
        exit_at_once(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = exit_at_once


def describe(error: BaseException) -> str:
    """`ValueError: text`, on one line; the type alone where there is no text."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
