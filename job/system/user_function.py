"""A person's own Python function, from `file.py:function`."""

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from job.errors import SettingsError


def load_function(spec: str, variable: str) -> Callable:
    """The function that `spec`, "file.py:function", names. Raises SettingsError if there is none."""
    path, _, name = spec.rpartition(":")
    if not Path(path).is_file():
        raise SettingsError(f"{variable}={spec}: no such file as {path}. Check the path.")
    loader = SourceFileLoader(Path(path).stem, path)
    module = ModuleType(loader.name)
    module.__file__ = path
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SettingsError(f"{variable}={spec}: importing {path} raised {describe(error)}. Fix the file.") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SettingsError(f"{variable}={spec}: {path} has no function {name}. Check the name.")
    return function


def describe(error: BaseException) -> str:
    """`ValueError: text`, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
