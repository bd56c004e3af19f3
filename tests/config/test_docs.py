"""What `make docs` writes is what the settings and the docstrings say."""

import re
from pathlib import Path

from dotenv import dotenv_values

from job.config.docs import env_example, groups, variables_page, with_list_of_files
from job.config.environment import KNOWN, read_settings
from job.config.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE, PAGE, ARCHITECTURE = ROOT / "env.example", ROOT / "docs" / "variables.md", ROOT / "docs" / "architecture.md"


def test_env_example_is_what_the_settings_say():
    assert EXAMPLE.read_text() == env_example(), "run: make docs"


def test_the_page_of_variables_is_what_the_settings_say():
    assert PAGE.read_text() == variables_page(), "run: make docs"


def test_every_field_is_in_one_group_in_the_order_of_the_settings():
    assert [name for names in groups().values() for name in names] == list(Settings.model_fields)


def test_groups_are_the_comments_above_the_fields():
    found = groups()
    assert list(found)[:3] == ["Model", "Data", "LoRA"]
    assert all(found.values()), "a comment without a field below it is not a heading: put it inside a docstring"
    assert found["Model"][0] == "model_id"
    assert "lora_r" in found["LoRA"]
    assert "train_data" in found["Data"]


def test_env_example_lists_every_variable_once_with_help():
    names = re.findall(r"^# ([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(names) == sorted(KNOWN)
    assert all(field.description for field in Settings.model_fields.values())


def test_the_page_of_variables_lists_every_variable_once():
    assert sorted(re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE)) == sorted(KNOWN)


def test_the_list_of_files_is_what_their_docstrings_say():
    page = ARCHITECTURE.read_text()
    assert with_list_of_files(page) == page, "run: make docs"


def test_every_module_is_in_the_list_of_files_and_says_what_it_is():
    listed = re.findall(r"^\| `([a-z_]+\.py)` \| (.+) \|$", ARCHITECTURE.read_text(), re.MULTILINE)
    there = [path.name for path in ROOT.glob("job/**/*.py") if path.name != "__init__.py"]
    assert sorted(name for name, _ in listed) == sorted(there)
    assert all(len(text) > 20 for _, text in listed)


def test_no_help_breaks_the_table_of_variables():
    assert {line.count("|") for line in PAGE.read_text().splitlines() if line.startswith("|")} == {4}


def test_the_defaults_in_env_example_are_accepted_and_change_nothing(tmp_path):
    values = re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    defaults = read_settings().model_dump()
    (tmp_path / ".env").write_text(re.sub(r"^(EVAL_FRACTION|NUM_TRAIN_EPOCHS)=.*$", "", values, flags=re.MULTILINE))
    assert len(dotenv_values(tmp_path / ".env")) == len(KNOWN) - 2
    assert read_settings().model_dump() == defaults
