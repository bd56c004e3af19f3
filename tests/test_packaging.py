"""What the files around the code say of it: its version and licence, how it is linted, tested and published."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import job

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def image_label(name: str) -> str:
    """The value of an OCI label in the Dockerfile."""
    return re.search(rf'org\.opencontainers\.image\.{name}="([^"]*)"', (ROOT / "Dockerfile").read_text())[1]


def test_project_and_image_have_the_version_of_the_code():
    assert re.fullmatch(r"\d+\.\d+\.\d+", job.__version__)
    assert PYPROJECT["project"]["version"] == job.__version__
    assert image_label("version") == job.__version__


def test_the_image_has_name_and_licence_of_the_project():
    assert (image_label("title"), image_label("licenses")) == (PYPROJECT["project"]["name"], PYPROJECT["project"]["license"])


def test_the_version_is_read_without_importing_anything_else():
    code = "import sys; before = set(sys.modules); import job; sys.exit(len(set(sys.modules) - before) - 1)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def lint_targets() -> set[str]:
    """What `make lint` is made of: "lint-python" and so on."""
    return set(re.search(r"^lint: ([^#]*)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split())


def test_pre_commit_runs_what_make_lint_runs_and_fetches_nothing():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert sorted(hook["entry"] for hook in hooks) == sorted(f"make {target}" for target in lint_targets())


def workflow_targets() -> set[str]:
    """The make targets that a job of the workflow runs, each value of its matrix filled in."""
    found = set()
    for steps in WORKFLOW["jobs"].values():
        commands = "\n".join(step.get("run", "") for step in steps["steps"])
        for target in steps.get("strategy", {}).get("matrix", {}).get("target", [""]):
            found |= set(re.findall(r"\bmake ([a-z-]+)", commands.replace("${{ matrix.target }}", target)))
    return found


def test_the_workflow_runs_what_ci_runs_and_builds_the_image():
    here = set(re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE))
    assert here == {"test", "test-slow", "test-zoo", "test-pretended-gpu", "test-slurm", "test-container"}
    assert workflow_targets() == here | {"image", "test-engines"}


def test_only_a_version_tag_publishes_and_only_that_job_may_write():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    writing = {name for name, one in WORKFLOW["jobs"].items() if "write" in one.get("permissions", {}).values()}
    assert writing == {"publish"}
    assert WORKFLOW["jobs"]["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert set(WORKFLOW["jobs"]["publish"]["needs"]) == set(WORKFLOW["jobs"]) - {"publish"}


@pytest.mark.parametrize("name", WORKFLOW["jobs"])
def test_a_job_of_the_workflow_has_a_time_limit_and_pinned_actions(name):
    assert WORKFLOW["jobs"][name]["timeout-minutes"] <= 90
    actions = [step["uses"] for step in WORKFLOW["jobs"][name]["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions), actions
