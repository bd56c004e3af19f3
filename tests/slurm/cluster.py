"""A Slurm cluster of two nodes on this machine, as its owner and a user see it."""

import contextlib
import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.ports import free_port

NODES = ("n1", "n2")
ENVIRONMENT = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}


def wait_until(is_so: Callable[[], object], seconds: float, told: Callable[[], object] = lambda: "") -> None:
    """Returns when `is_so` is true; fails with what `told` then says where that takes more than so many seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


class Cluster:
    """munged, a controller and two nodes with everything of theirs in one folder; nothing of the machine's own Slurm is touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = ENVIRONMENT | {"SLURM_CONF": str(folder / "slurm.conf")}
        self._started: list[subprocess.Popen] = []

    def start(self) -> None:
        """Returns when both nodes are idle."""
        for name in ("controller", *NODES):
            (self.folder / name).mkdir()
        ports = {name: free_port() for name in ("controller", *NODES)}
        wanted = (Path(__file__).parent / "slurm.conf").read_text()
        (self.folder / "slurm.conf").write_text(wanted.format(folder=self.folder, user=getpass.getuser(), **ports))
        (self.folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/null\n")
        self._start_munge()
        self._start("slurmctld", "-D")
        for node in NODES:
            self._start("slurmd", "-D", "-N", node)
        wait_until(lambda: self.nodes("idle") == 2, 60, lambda: self.ask("sinfo") + self.log())

    def _start_munge(self) -> None:
        key, socket = self.folder / "munge.key", self.folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "seed", "log")]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket}", *files)
        wait_until(socket.exists, 20, self.log)

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=ENVIRONMENT["PATH"])
        assert path, program
        with (self.folder / f"{program}.out").open("a") as said:
            self._started.append(subprocess.Popen([path, *arguments], env=self.environment, stdout=said, stderr=said))

    def stop(self) -> None:
        """Ends what runs on it, and everything that `start` started."""
        with contextlib.suppress(AssertionError):
            self.ask("scancel", f"--user={getpass.getuser()}")
            wait_until(lambda: not self.ask("squeue", "--noheader"), 60)
        for process in reversed(self._started):
            process.terminate()
            process.wait(timeout=60)

    def ask(self, *command: str, folder: Path | None = None, **variables: str) -> str:
        """What one of Slurm's programs answers."""
        asked = subprocess.run(
            command, cwd=folder or self.folder, env=self.environment | variables, text=True, capture_output=True, check=False
        )
        assert asked.returncode == 0, f"{command}: {asked.stderr}{self.log()}"
        return asked.stdout

    def nodes(self, state: str) -> int:
        """How many nodes are in that state."""
        return int(self.ask("sinfo", "--noheader", f"--states={state}", "--format=%D").strip() or 0)

    def log(self) -> str:
        """The ends of everything that the programs said."""
        files = sorted({*self.folder.glob("*.log"), *self.folder.glob("*.out")})
        return "\n".join(f"== {file.name}\n{file.read_text()[-2000:]}" for file in files)
