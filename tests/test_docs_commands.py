"""What the papers say of commands, exit codes and predicted figures is what the code says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from job.errors import EXIT_BUG, Interrupted
from tests.conftest import ERRORS

ROOT = Path(__file__).parents[1]
README, PLAN, RELIABILITY = ROOT / "README.md", ROOT / "docs" / "plan.md", ROOT / "docs" / "reliability.md"
PAPERS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
SHOWN_CELLS = 8
"""Columns of the plan that the papers show; the reason is left out."""


def call(*arguments: str, **variables: str) -> str:
    """What a command of the job prints."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | variables
    command = [sys.executable, str(ROOT / "entrypoint.py"), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def table_under(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The rows that `plan` prints for the model and the lengths that the papers show, by GPU."""
    printed = call("plan", MODEL_ID="google/flan-t5-xl", PLAN_ROWS="1000", OUTPUT_DIR=str(tmp_path_factory.mktemp("output")))
    rows = [re.split(r" {2,}", line.strip())[:SHOWN_CELLS] for line in printed.splitlines()]
    return {row[0]: row for row in rows if len(row) == SHOWN_CELLS and row[0] != "GPU"}


def test_the_page_of_the_plan_shows_what_plan_prints(planned):
    assert len(planned) == 10
    assert {row[0]: row for row in table_under(PLAN, "FLAN-T5 XL on each GPU")} == planned


def test_the_readme_predicts_what_plan_predicts_for_a_v100(planned):
    assert table_under(README, "What it takes") == [planned["V100-16GB"]]


def test_the_readme_lists_every_command_that_help_lists():
    helped = set(re.findall(r"^ {2,4}([a-z]+)(?: |$)", call("--help"), re.MULTILINE))
    listed = {re.split(r"\W", word)[0] for row in table_under(README, "Commands") for word in re.findall(r"`([a-z][^`]*)`", row[0])}
    assert {"run", "plan", "predict"} <= listed
    assert listed == helped


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_in_the_papers_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


def test_the_table_of_exit_codes_is_that_of_the_errors():
    of_errors: dict[str, str] = {"0": "", str(EXIT_BUG): "any other exception"}
    for error in ERRORS:
        code = str(error.exit_code)
        of_errors[code] = ", ".join(filter(None, [of_errors.get(code), f"`{error.__name__}`"]))
    assert {row[0]: row[2] for row in table_under(RELIABILITY, "Exit codes")} == of_errors


def test_the_readme_names_every_exit_code():
    section = README.read_text().split("\n## Exit codes\n")[1].split("\n## ")[0]
    named = {int(number) for number in re.findall(r"\b\d+\b", section)} - {128}
    assert named == {error.exit_code for error in ERRORS} | {0, EXIT_BUG, Interrupted("", "SIGHUP").exit_code}
