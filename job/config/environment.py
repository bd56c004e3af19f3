"""The environment and `.env`, read into Settings; every mistake in them is one SettingsError."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError

from job.config.engines import OF_THE_IMAGE, engine_variables
from job.config.other_names import (
    ADVICE,
    OF_COMPOSE,
    OF_COMPOSE_FILE,
    OF_MACHINES,
    OF_OTHER_PROGRAMS,
    OFTEN_SOMEBODY_ELSES,
)
from job.config.search_space import read_axes
from job.config.settings import Settings
from job.errors import SettingsError
from job.system.launcher import FAILURES

KNOWN = tuple(name.upper() for name in Settings.model_fields)
"""The names of all variables."""

STRICT = "LORA_JOB_STRICT"
"""Set by docker-compose.yml, whose container gets no variables of a machine: all but the image's own are a person's."""

IMAGE_VARIABLES = Path(__file__).parents[2] / "image-variables"
"""The names that the image itself sets, a line each; written when it is built."""

OF_ANY_CONTAINER = {
    "PATH", "HOME", "HOSTNAME", "TERM", "PWD", "OLDPWD", "SHLVL", "_", "LINES", "COLUMNS", "LC_CTYPE", "CONTAINER",
}  # fmt: skip
"""The names that engines, shells and Python add."""

FIX_TOKEN_FILE = "Write the token into it and make it readable (chmod a+r), or set HF_TOKEN."

FILE_FUNCTION, LENGTHS = "path/to/file.py:function", "median/95th percentile/longest in tokens, such as 150/220/256"
PATTERNS_IN_WORDS = {
    "METRIC": FILE_FUNCTION, "PREPROCESS": FILE_FUNCTION, "PLAN_SOURCE_LENGTHS": LENGTHS, "PLAN_TARGET_LENGTHS": LENGTHS,
    "RUN_NAME": "letters, digits, '.', '_' and '-', beginning with a letter or digit",
    "NPROC_PER_NODE": "auto or a number from 1 on",
}  # fmt: skip
"""The regular expressions of settings.py, for messages."""

OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)$")
"""What Kubernetes tells every container of each Service in its namespace."""

GUESSED, MISSPELT, MISSPELT_OF_OTHERS = 0.6, 0.84, 0.9
"""From these difflib ratios on, an unknown name is taken for a known one: in `.env`; in the process environment, where no ordinary
name comes that near; and where it begins like another program's, such as HF_TOKN."""


def read_settings(dotenv_path: Path = Path(".env")) -> Settings:
    """The Settings that the process environment and the file at `dotenv_path`, if there is one, ask for.

    What the file sets for other programs (HF_ENDPOINT, HTTPS_PROXY, ...) goes into the process environment, as in a container.
    Raises SettingsError for a name or a value that is wrong, before anything heavy is imported.
    """
    dotenv = read_dotenv(dotenv_path)
    environment = {name.upper(): value for name, value in os.environ.items() if value}
    check_names(dotenv, where=f" in {dotenv_path}", strict=True)
    given = dotenv | {name: value for name, value in environment.items() if OF_THE_IMAGE.get(name) != value}
    engine = {name: value for name, value in engine_variables(environment).items() if name not in given}
    check_names(engine, " in the hyperparameters", strict=True)
    in_compose = STRICT in environment and FAILURES not in environment  # a process that another one of the job started
    where = " in .env or given with -e" if in_compose else ""
    check_names(environment.keys() - _of_the_container(), where, strict=in_compose)
    of_engine: dict[str, Any] = {name.lower(): value for name, value in engine.items()}
    try:
        settings = Settings(_env_file=dotenv_path, **of_engine)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem, dotenv | environment | engine) for problem in error.errors())) from None
    for name in (name for name in dotenv if name not in KNOWN and name.startswith(OF_OTHER_PROGRAMS)):
        os.environ.setdefault(name, dotenv[name])
    if settings.sweep:
        read_axes(settings)
    return _with_token_from_file(settings)


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file, names in capitals, empty ones left out; {} where there is no file."""
    try:
        values = dotenv_values(path)
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}. Make it readable for this user (chown, or chmod a+r)."
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} cannot be read: {error}. Save it as UTF-8 text.") from None
    return {name.upper(): value for name, value in values.items() if value}


def check_names(names: Iterable[str], where: str, strict: bool) -> None:
    """Raises SettingsError for the first name that is not known; if not `strict`, only where it was surely meant for the job."""
    for name in sorted(name.upper() for name in names):
        if name in KNOWN or name in OF_COMPOSE_FILE or name.startswith(OF_COMPOSE):
            continue
        if nearest := nearest_name(name, strict):
            raise SettingsError(f"{name}{where}: no such variable. {ADVICE.get(nearest, f'Did you mean {nearest}?')}")
        if strict and not name.startswith(OF_OTHER_PROGRAMS):
            raise SettingsError(f"{name}{where}: no such variable. env.example lists all of them.")


def nearest_name(name: str, strict: bool) -> str | None:
    """The name that `name` was meant to be, one of ours or of another tool's in ADVICE; None if there is none."""
    if name in ADVICE and (strict or name not in OFTEN_SOMEBODY_ELSES):
        return name
    if not strict and (name in ADVICE or name.startswith(OF_MACHINES) or OF_A_SERVICE.search(name)):
        return None
    similar = MISSPELT_OF_OTHERS if name.startswith(OF_OTHER_PROGRAMS) else GUESSED if strict else MISSPELT
    candidates = [*KNOWN, *ADVICE] if strict else KNOWN
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=similar)), None)


def _of_the_container() -> set[str]:
    """The names that no person gave: the image's, the engine's and the one that docker-compose.yml marks the container with."""
    of_image = IMAGE_VARIABLES.read_text().upper().split() if IMAGE_VARIABLES.exists() else ()
    return OF_ANY_CONTAINER.union(of_image, {STRICT})


def _explain(problem: Mapping, given: Mapping[str, str]) -> str:
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
    if not problem["loc"]:
        return f"{message}."
    name = str(problem["loc"][0]).upper()
    if problem["type"] == "string_pattern_mismatch":
        message = PATTERNS_IN_WORDS[name]
    shown = "" if "TOKEN" in name and not name.endswith("TOKENS") else f'="{given.get(name, "")}"'
    return f"{name}{shown}: expected {message.removesuffix(' was expected')}. Change it, or leave it empty for the default."


def _with_token_from_file(settings: Settings) -> Settings:
    if settings.hf_token_file is None:
        return settings
    try:
        token = settings.hf_token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(f"HF_TOKEN_FILE={settings.hf_token_file} cannot be read: {reason}. {FIX_TOKEN_FILE}") from None
    if not token:
        raise SettingsError(f"HF_TOKEN_FILE={settings.hf_token_file} is empty. {FIX_TOKEN_FILE}")
    return settings.model_copy(update={"hf_token": SecretStr(token)})
