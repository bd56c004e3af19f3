"""Which image `docker compose up` takes: the published one that IMAGE names, or one that it builds."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.container.clones import CPU, ENVIRONMENT, copy_repository, docker
from tests.container.registry import registry


@pytest.fixture
def taken_image(engine: None, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Tells how the image of that name was come by, once compose has made the containers as `up` does: "pulled" or "built"."""
    folder = copy_repository(tmp_path / "lora-job", uid=0)
    (folder / "Dockerfile").write_text("FROM scratch\nLABEL come-by=built\nCMD none\n")
    compose = ("docker", "compose", "--project-name", f"test-{uuid.uuid4().hex[:8]}", *CPU)
    names = []

    def take(name: str) -> str:
        names.append(name)
        made = [*compose, "create", "job"]
        result = subprocess.run(made, cwd=folder, env=ENVIRONMENT | {"IMAGE": name}, text=True, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
        return docker("image", "inspect", "--format", '{{index .Config.Labels "come-by"}}', name).stdout.strip()

    yield take
    subprocess.run([*compose, "down", "--volumes"], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)
    for name in names:
        docker("image", "rm", "--force", name)


def test_a_published_image_is_pulled_and_not_built(taken_image):
    with registry({"come-by": "pulled"}) as address:
        assert taken_image(f"{address}/lora-job:0.2.0") == "pulled"


def test_an_image_that_the_registry_lacks_is_built(taken_image):
    with registry({"come-by": "pulled"}) as address:
        assert taken_image(f"{address}/lora-job:0.1.9") == "built"


def test_an_image_that_is_here_is_neither_pulled_nor_built(taken_image):
    with registry({"come-by": "pulled"}) as address:
        name = f"{address}/lora-job:0.2.0"
        assert taken_image(name) == "pulled"
    assert taken_image(name) == "pulled"  # the registry is gone, and a build would say so


def test_a_plain_name_is_built(taken_image):
    assert taken_image(f"lora-job-{uuid.uuid4().hex[:8]}") == "built"
