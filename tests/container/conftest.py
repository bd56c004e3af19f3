"""A Docker engine, the image, and clones whose compose file is run."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.conftest import environment_with
from tests.container.clones import ENVIRONMENT, IMAGE, ROOT, Clone, copy_repository
from tests.ports import free_port


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine that answers, started if it may be. In CI it must; elsewhere the tests are skipped, loudly."""
    own_base = {"BASE_IMAGE": os.environ.get("BASE_IMAGE", "")}  # without one the script makes the stand-in
    program = [Path(__file__).parent / "engine.sh"]
    ready = subprocess.run(program, env=ENVIRONMENT | own_base, text=True, capture_output=True, check=False)
    if ready.returncode:
        reason = f"NO CONTAINER TEST RAN: {ready.stderr.strip()}"
        pytest.exit(reason, returncode=1) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="session")
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built with compose from a clone that holds a secret which must not get into it."""
    folder = copy_repository(tmp_path_factory.mktemp("build") / "lora-job", uid=0)
    (folder / ".env").write_text("HF_TOKEN=hf_must_not_be_in_the_image\n")
    program = ["docker", "compose", "build", "--quiet", "job"]
    built = subprocess.run(program, cwd=folder, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr
    return IMAGE


@pytest.fixture
def make_clone(image: str, tmp_path: Path) -> Iterator[Callable[[int], Clone]]:
    """Makes clones that belong to the given uid; their containers and volumes are removed after the test."""
    made: list[Clone] = []
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)

    def make(uid: int) -> Clone:
        folder = copy_repository(tmp_path / f"clone-of-{uid}", uid)
        made.append(Clone(folder, uid, f"test-{uuid.uuid4().hex[:8]}", free_port()))
        return made[-1]

    yield make
    for clone in made:
        clone.compose("down", "--volumes", "--timeout", "2")


@pytest.fixture(scope="session")
def demo_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `output` and `logs` of two runs of the embedded default, as they are on a machine without a container.

    "demo" is as it comes; "half-rate" ends early, so that there is something to compare.
    """
    folder = tmp_path_factory.mktemp("runs")
    for variables in ({}, {"RUN_NAME": "half-rate", "LEARNING_RATE": "0.0005", "NUM_TRAIN_EPOCHS": "2"}):
        environment = environment_with({"DEVICE": "cpu"} | variables)
        command = [sys.executable, ROOT / "entrypoint.py"]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def browser(engine: None, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """Debian's Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,800"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()
