"""env.example, the README's table and the settings say the same."""

import re
from pathlib import Path

from dotenv import dotenv_values

from job.config.docs import env_example, with_table
from job.config.environment import KNOWN, read_settings
from job.config.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "env.example"
README = Path(__file__).parents[2] / "README.md"


def test_env_example_is_what_the_settings_say():
    assert EXAMPLE.read_text() == env_example(), "run: make docs"


def test_the_table_in_the_readme_is_what_the_settings_say():
    assert README.read_text() == with_table(README.read_text()), "run: make docs"
    assert all(f"| `{name}` |" in README.read_text() for name in KNOWN)


def test_env_example_lists_every_variable_once_with_help():
    names = re.findall(r"^# ([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(names) == sorted(KNOWN)
    assert all(field.description for field in Settings.model_fields.values())


def test_the_defaults_in_env_example_are_accepted_and_change_nothing(tmp_path):
    values = re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    defaults = read_settings().model_dump()
    (tmp_path / ".env").write_text(re.sub(r"^(EVAL_FRACTION|NUM_TRAIN_EPOCHS)=.*$", "", values, flags=re.MULTILINE))
    assert len(dotenv_values(tmp_path / ".env")) == len(KNOWN) - 2
    assert read_settings().model_dump() == defaults
