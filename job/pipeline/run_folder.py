"""OUTPUT_DIR/RUN_NAME: where everything of a run lies, and how far it is."""

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import stat
import time
from pathlib import Path

from job.errors import EXIT_BUG, DiskFull, JobError, OutputError, SettingsError
from job.system.durable import write_json

OWN = (
    "adapter", "adapter.partial", "checkpoints", "data", "data.partial", "evaluation.csv", "history.json", "merged",
    "merged.partial", "plan.json", "proof.json", "report.html", "settings.json", "status.json",
)  # fmt: skip


EPOCHS, CONTENT = "num_train_epochs", "content"
PROGRESS = ("stage", "step", "total_steps", "percent", "loss", "last_checkpoint")
TERMINATION_LOG, MOST_TERMINATION_BYTES = Path("/dev/termination-log"), 4096
"""Where Kubernetes reads what a container ended with."""

log = logging.getLogger(__name__)


class RunFolder:
    """The folder of one run. Creating it raises OutputError where it cannot be written."""

    def __init__(self, output_dir: Path, logs_dir: Path, run_name: str) -> None:
        self.path, self.logs = output_dir / run_name, logs_dir / run_name
        self.data, self.adapter = self.path / "data", self.path / "adapter"
        self.evaluation, self.checkpoints = self.path / "evaluation.csv", self.path / "checkpoints"
        self.plan, self.history = self.path / "plan.json", self.path / "history.json"
        self.report, self.proof = self.path / "report.html", self.path / "proof.json"
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
        """Keeps `settings` as those of this run. Raises SettingsError if something was trained here with others.

        More epochs than before are no others, as long as the run is not done: it goes on to the new end.
        """
        if not self.is_begun:
            return write_json(self.settings, settings)
        before = self._kept()
        different = [name for name in settings if before.get(name) != settings[name]]
        if different == [EPOCHS] and before.get(EPOCHS, settings[EPOCHS]) < settings[EPOCHS] and not self.adapter.exists():
            log.warning("NUM_TRAIN_EPOCHS was %g and is %g: the run goes on to the new end", before[EPOCHS], settings[EPOCHS])
            write_json(self.settings, before | settings)
        elif different:
            listed = ", ".join(f"{name.upper()} was {before.get(name)} and is {settings[name]}" for name in different)
            raise SettingsError(
                f"{self.path} holds a run with other settings: {listed}. Choose another RUN_NAME, or set OVERWRITE=true."
            )

    @property
    def content(self) -> dict[str, str]:
        """The fingerprints that `hold_to` kept of a run that has begun."""
        return self._kept().get(CONTENT, {}) if self.is_begun else {}

    def hold_to(self, content: dict[str, str]) -> None:
        """Keeps the fingerprints of what this run is made from. Raises SettingsError if it was begun from something else."""
        changed = [name for name, fingerprint in content.items() if self.content.get(name, fingerprint) != fingerprint]
        if changed:
            raise SettingsError(
                f"{self.path} was begun with other content: {' and '.join(changed)} changed since. Bring it back, choose another "
                "RUN_NAME, or set OVERWRITE=true."
            )
        write_json(self.settings, self._kept() | {CONTENT: self.content | content})

    def keep(self, settings: dict[str, object]) -> None:
        """Keeps `settings` as those of this run from now on."""
        write_json(self.settings, self._kept() | settings)

    def _kept(self) -> dict:
        return json.loads(self.settings.read_text()) if self.settings.exists() else {}

    @property
    def is_begun(self) -> bool:
        """Whether something was trained here."""
        return self.adapter.exists() or self.checkpoints.exists()

    @property
    def is_done(self) -> bool:
        """Whether a run was finished here."""
        return self.status.exists() and json.loads(self.status.read_text())["state"] == "done"

    def tell(self, state: str, **details: object) -> None:
        """Replaces `status.json`: state ("running", "done", "failed") and details. Its time is a sign of life."""
        status = {"state": state, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | details
        write_json(self.status, status)
        if state != "running" and TERMINATION_LOG.exists():
            with contextlib.suppress(OSError):
                TERMINATION_LOG.write_text(_shortened(status))

    def beat(self, stage: str, **progress: object) -> None:
        """`tell` how far a stage is. A full disk is no reason to stop: the next checkpoint will tell."""
        with contextlib.suppress(OSError):
            self.tell("running", stage=stage, **progress)

    def tell_failure(self, error: Exception) -> None:
        """`tell` that `error` ended the run: cause, what to do, exit code, whether a retry can help, and how far the run was."""
        message = str(error) if isinstance(error, JobError) else f"{type(error).__name__}: {error}"
        last = json.loads(self.status.read_text()) if self.status.exists() else {}
        reached = {name: last[name] for name in PROGRESS if name in last}
        with contextlib.suppress(OSError):
            code = getattr(error, "exit_code", EXIT_BUG)
            fix = _last_sentence(message) if isinstance(error, JobError) else "Report it, with the log."
            self.tell("failed", **reached, error=message, fix=fix, exit_code=code, retryable=getattr(error, "retryable", False))


def _last_sentence(message: str) -> str:
    """What to do: our messages end with it."""
    return re.split(r"(?<=[.?!]) (?=[A-Z])", message)[-1]


def _shortened(status: dict) -> str:
    """`status` as JSON of at most 4096 bytes, which is what Kubernetes takes."""
    texts = {name: str(value) for name, value in status.items()}
    while len(content := json.dumps(status, default=str, ensure_ascii=False).encode()) > MOST_TERMINATION_BYTES:
        longest = max(texts, key=lambda name: len(texts[name]))
        status = status | {longest: texts[longest][: len(texts[longest]) // 2]}
        texts[longest] = status[longest]
    return content.decode()


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
