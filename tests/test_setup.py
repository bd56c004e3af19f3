"""setup.sh tells what is missing before it installs anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with setup.sh and an empty lock, and a `bin` that comes first on the PATH."""
    for name in ("setup.sh", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def fake(project: Path, name: str, script: str) -> None:
    path = project / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def setup(project: Path) -> tuple[int, str]:
    environment = {"PATH": f"{project / 'bin'}:{os.environ['PATH']}", "HOME": str(project)}
    result = subprocess.run(["sh", "setup.sh"], cwd=project, env=environment, capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


def test_a_too_old_python_is_told(project):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        fake(project, name, 'case "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac')
    code, said = setup(project)
    assert code == 1
    assert "Python 3.11, 3.12 or 3.13 is needed, found Python 3.9.2" in said
    assert not (project / ".venv").exists()


def test_a_missing_venv_module_is_told_with_the_package_that_has_it(project):
    fake(project, "python3", 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac')
    code, said = setup(project)
    assert code == 1
    assert "sudo apt-get install python3-venv" in said
    assert not (project / ".venv").exists()


def test_too_little_disk_is_told(project):
    fake(project, "df", 'echo header; echo "/dev/vda 100 50 3145728 50% /"')
    code, said = setup(project)
    assert code == 1
    assert "10 GB of free disk are needed here, 3 GB are free" in said
    assert not (project / ".venv").exists()


def test_what_is_installed_is_not_installed_again(project):
    (project / ".venv").mkdir()
    stamp = subprocess.run(
        "cat requirements.txt | cksum", shell=True, cwd=project, capture_output=True, text=True, check=True
    ).stdout
    (project / ".venv" / "installed").write_text(stamp)
    fake(project, "python3", "exit 1")
    assert setup(project) == (0, "")
