"""`docker` and `docker compose` as a person types them, and fresh clones of this repository to type them in."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import checked

ROOT = Path(__file__).parents[2]
IMAGE = "lora-job-test"
CPU = ("-f", "docker-compose.yml", "-f", "docker-compose.cpu.yml")
ENVIRONMENT = os.environ | {"PATH": f"/usr/bin:{os.environ['PATH']}", "IMAGE": IMAGE}
ENVIRONMENT.setdefault("BASE_IMAGE", "lora-job-test-base")
ENVIRONMENT.pop("DEVICE", None)  # the containers are to find out by themselves


def docker(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """`docker` with these arguments: its exit code, and what it said."""
    return subprocess.run(["docker", *arguments], env=ENVIRONMENT, text=True, capture_output=True, check=False, **options)


def said(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


@dataclass(frozen=True)
class Clone:
    """A fresh clone of the repository that belongs to one user of the host, with a compose project of its own."""

    folder: Path
    uid: int
    project: str
    port: int

    def compose(self, *arguments: str, files: tuple[str, ...] = CPU) -> subprocess.CompletedProcess[str]:
        """`docker compose` as typed in the clone."""
        variables = ENVIRONMENT | {"COMPOSE_PROJECT_NAME": self.project, "TENSORBOARD_PORT": str(self.port)}
        program = ["docker", "compose", *files, *arguments]
        return subprocess.run(program, cwd=self.folder, env=variables, text=True, capture_output=True, check=False)

    def run_job(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """`docker compose up` of the job alone, with these lines in `.env`; the job's exit code."""
        return self.run_dotenv("".join(f"{name}={value}\n" for name, value in checked(variables).items()))

    def run_dotenv(self, text: str) -> subprocess.CompletedProcess[str]:
        """The same with this text as `.env`, right or wrong."""
        (self.folder / ".env").write_text(text)
        return self.compose("up", "--no-log-prefix", "--exit-code-from", "job", "job")

    def as_user(self, *program: str) -> subprocess.CompletedProcess[str]:
        """A program run on the host by the user of this clone."""
        identity = {"user": self.uid, "group": self.uid, "extra_groups": []}
        return subprocess.run(program, cwd=self.folder, text=True, capture_output=True, check=False, **identity)


def copy_repository(folder: Path, uid: int) -> Path:
    """What `git clone` would make of the working tree, owned by `uid`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid)
    return folder
