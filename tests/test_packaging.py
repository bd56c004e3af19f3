"""What the files around the code say of it: its version and licence, how it is linted, tested and published."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import job

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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
