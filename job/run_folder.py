"""OUTPUT_DIR/RUN_NAME: where everything of a run lies, and how far it is."""

import contextlib
import errno
import json
import os
import shutil
import stat
import time
from pathlib import Path

from job.errors import EXIT_BUG, DiskFull, JobError, OutputError, SettingsError

OWN = (
    "adapter", "adapter.partial", "checkpoints", "data", "data.partial", "evaluation.csv", "plan.json", "settings.json",
    "status.json",
)  # fmt: skip


class RunFolder:
    """The folder of one run. Creating it raises OutputError where it cannot be written."""

    def __init__(self, output_dir: Path, logs_dir: Path, run_name: str) -> None:
        self.path, self.logs = output_dir / run_name, logs_dir / run_name
        self.data, self.adapter = self.path / "data", self.path / "adapter"
        self.evaluation, self.checkpoints = self.path / "evaluation.csv", self.path / "checkpoints"
        self.plan = self.path / "plan.json"
        self.status, self.settings = self.path / "status.json", self.path / "settings.json"
        make_writable(output_dir, "OUTPUT_DIR")
        share_with_group(output_dir)
        make_writable(self.path, "OUTPUT_DIR")
        make_writable(self.logs, "LOGS_DIR")

    def clear(self) -> None:
        """Deletes what an earlier run of this name left, and nothing else."""
        for path in [self.path / name for name in OWN] + sorted(self.logs.glob("events.out.tfevents.*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def claim(self, settings: dict[str, object]) -> None:
        """Keeps `settings` as those of this run. Raises SettingsError if something was trained here with others."""
        if not self.is_begun:
            return write_json(self.settings, settings)
        before = json.loads(self.settings.read_text()) if self.settings.exists() else {}
        different = [name for name in settings if before.get(name) != settings[name]]
        if different:
            listed = ", ".join(f"{name.upper()} was {before.get(name)} and is {settings[name]}" for name in different)
            raise SettingsError(
                f"{self.path} holds a run with other settings: {listed}. Choose another RUN_NAME, or set OVERWRITE=true."
            )

    @property
    def is_begun(self) -> bool:
        """Whether something was trained here."""
        return self.adapter.exists() or self.checkpoints.exists()

    @property
    def is_done(self) -> bool:
        """Whether a run was finished here."""
        return self.status.exists() and json.loads(self.status.read_text())["state"] == "done"

    def tell(self, state: str, **details: object) -> None:
        """Replaces `status.json`: state ("running", "done", "failed") and details."""
        write_json(self.status, {"state": state, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | details)

    def tell_failure(self, error: Exception) -> None:
        """`tell` that `error` ended the run, with its exit code and whether a retry can help."""
        message = str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            code = getattr(error, "exit_code", EXIT_BUG)
            self.tell("failed", error=message, exit_code=code, retryable=getattr(error, "retryable", False))


def write_json(path: Path, content: dict) -> None:
    """Writes `content` to `path` in one step: a reader sees the old or the new file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(partial, path)


def make_writable(folder: Path, variable: str) -> None:
    """Makes `folder`, which `variable` names, if need be. Raises OutputError or DiskFull if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.write_text("x")
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"{variable}: no space left at {folder}. Free some.") from None
        raise OutputError(f"{variable}: {folder} cannot be written by uid {os.getuid()}: {_way_out(folder, error)}") from None


def share_with_group(folder: Path) -> None:
    """Lets the group of a setgid `folder` change what this process writes from now on; docker-compose.yml makes ./output one."""
    if folder.stat().st_mode & stat.S_ISGID:
        os.umask(os.umask(0) & ~0o070)


def _way_out(folder: Path, error: OSError) -> str:
    """What happened to `folder`, and the command that mends it."""
    if error.errno == errno.EROFS:
        return "it is on a read-only file system. Mount it writable, or choose another folder."
    if error.errno not in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}. Choose another folder."
    mount = next((path for path in (folder, *folder.parents[:-1]) if path.is_mount()), None)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    chown = f"sudo chown -R {os.getuid()}:{os.getgid()}"
    if mount:
        return f"{error.strerror}. On the host run `{chown} ./{mount.name}`, or that for whatever folder is mounted at {mount}."
    return f"{error.strerror}. Run `{chown} {there}`, or choose another folder."
