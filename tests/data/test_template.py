"""A prompt template."""

import pytest

from job.data.template import Template
from job.errors import SettingsError


def test_a_template_never_looks_into_objects():
    assert Template("{input.__class__}", "input").columns == ("input.__class__",)


def test_a_template_without_a_column_is_refused():
    with pytest.raises(SettingsError, match="names no column"):
        Template("Answer:", "input")
