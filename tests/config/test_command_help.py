"""The help of a command lists the variables that it reads, and no variable is in nobody's."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import entrypoint
from job.config.command_help import describe_variables, variables_of
from job.config.inputs import run_name
from job.config.settings import Settings

ROOT = Path(entrypoint.__file__).parent
COMMANDS = sorted(path.stem for path in (ROOT / "job" / "commands").glob("[a-z]*.py"))


def test_every_variable_is_read_by_some_command():
    assert set().union(*map(variables_of, COMMANDS)) == set(Settings.model_fields)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_commands_own_module_reads_is_in_its_help(command):
    tree = ast.parse((ROOT / "job" / "commands" / f"{command}.py").read_text())
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "settings"}
    assert read & set(Settings.model_fields) <= variables_of(command)
    listed = set(re.findall(r"^  ([A-Z_0-9]+)=", describe_variables(command), re.MULTILINE))
    assert listed == {name.upper() for name in variables_of(command)}


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ("compare", "plan", "doctor")])
def test_what_names_a_run_is_in_the_help_of_every_command_that_takes_one(command):
    usual = Settings()
    naming = {name for name in Settings.model_fields if run_name(usual.model_copy(update={name: "another"})) != run_name(usual)}
    assert naming == {"run_name", "model_id", "train_data"}
    assert naming | {"output_dir"} <= variables_of(command)


@pytest.mark.parametrize("command", ["prepare", "evaluate", "predict", "serve", "merge", "check", "status"])
def test_what_only_a_training_reads_is_not_in_the_help_of_what_trains_nothing(command):
    assert not variables_of(command) & {"lora_r", "learning_rate", "num_train_epochs", "save_strategy", "padding_free", "optim"}


def test_defaults_and_meanings_stand_beside_the_names():
    text = describe_variables("predict")
    assert "  DEVICE=auto\n      Where to train; cuda makes a missing GPU an error, auto falls back to the CPU.\n" in text
    assert "LEARNING_RATE" not in text
    assert "\nModel\n" in text
    assert "\nLoRA\n" not in text


def test_a_person_sees_it():
    command = [sys.executable, str(ROOT / "entrypoint.py"), "serve", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("usage: python entrypoint.py serve")
    assert "  SERVE_PORT=8000\n" in said
