"""What wrong variables are answered with."""

import pytest

from job.config.environment import read_settings
from job.errors import SettingsError


def message(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The error that these variables in the process environment give."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    return str(raised.value)
