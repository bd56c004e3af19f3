"""A training on a Slurm cluster, as who submitted it sees it."""

import contextlib
import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.conftest import checked
from tests.slurm.cluster import Cluster, wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "slurm" / "lora-job.sbatch"
PATIENCE_S = 300
"""For what takes seconds on a machine that does nothing else."""


class Job:
    """deploy/slurm/lora-job.sbatch, submitted in a folder of its own to train a tiny T5."""

    def __init__(self, cluster: Cluster, folder: Path, model: Path) -> None:
        self.cluster, self.folder, self.run = cluster, folder, folder / "output" / "r"
        self.number = ""
        rows = [
            {"input": f"the {day} of May" + " please" * (day % 7), "output_ground_truth": f"05-{day:02d}"} for day in range(1, 62)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.variables = checked({
            "MODEL_ID": model, "TRAIN_DATA": "rows.jsonl", "RUN_NAME": "r", "NUM_TRAIN_EPOCHS": 10, "EVAL_STRATEGY": "epoch",
            "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2, "MAX_NEW_TOKENS": 4, "PER_DEVICE_TRAIN_BATCH_SIZE": 2,
            "DEVICE": "cpu", "PREPROCESSING_NUM_WORKERS": 1, "LORA_DROPOUT": 0, "METRICS": "exact_match",
        })  # fmt: skip

    def submit(self, *options: str, **variables: str) -> None:
        """The address of node n1 is given: it has no name here."""
        variables = self.variables | {"LORA_JOB_HOME": str(ROOT), "MASTER_ADDR": "127.0.0.1"} | variables
        said = self.cluster.ask("sbatch", "--parsable", "--cpus-per-gpu=1", *options, str(SCRIPT), folder=self.folder, **variables)
        self.number = said.strip()

    def leave(self) -> None:
        """Takes it off the cluster, whatever it is at."""
        if self.number:
            self.cluster.ask("scancel", self.number)
            wait_until(lambda: self.tells("JobState") not in ("RUNNING", "COMPLETING", "PENDING"), 60, self.log)

    def tells(self, field: str) -> str:
        """What Slurm says of this job: JobState, Reason, ExitCode, Restarts, NumNodes, ..."""
        return re.search(rf"\b{field}=(\S+)", self.cluster.ask("scontrol", "show", "job", self.number))[1]

    def wait_for(self, state: str, seconds: float = PATIENCE_S) -> None:
        wait_until(lambda: self.tells("JobState") == state, seconds, self.log)

    def ranks(self) -> dict[int, int]:
        """Rank -> its process."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() != self.folder or b"entrypoint.py\0" not in (process / "cmdline").read_bytes():
                    continue
                if rank := re.search(rb"\0RANK=(\d+)\0", (process / "environ").read_bytes()):
                    found[int(rank[1])] = int(process.name)
        return found

    def wait_for_ranks(self, count: int) -> None:
        wait_until(lambda: len(self.ranks()) == count, PATIENCE_S, self.log)

    def wait_for_a_checkpoint(self) -> None:
        wait_until(lambda: list(self.run.glob("checkpoints/checkpoint-*/manifest.json")), PATIENCE_S, self.log)

    def start_again(self) -> None:
        """Starts what went back into the queue once its last attempt is gone from the nodes; Slurm would let minutes pass."""
        wait_until(lambda: self.tells("JobState") == "PENDING" and self.tells("Reason") != "None", PATIENCE_S, self.log)
        wait_until(lambda: not self.is_on_a_node(), PATIENCE_S, self.log)
        self.cluster.ask("scontrol", "update", f"JobId={self.number}", "StartTime=now")

    def set_minutes_left(self, minutes: int) -> None:
        """Sets its time limit: whole minutes, to the next minute that began."""
        used = self.tells("RunTime").split(":")
        limit = int(used[0]) * 60 + int(used[1]) + minutes
        self.cluster.ask("scontrol", "update", f"JobId={self.number}", f"TimeLimit={limit}")

    @property
    def is_kept(self) -> bool:
        """Whether there is anything that the script keeps for another start."""
        return (self.folder / f".lora-job-{self.number}").exists()

    def is_on_a_node(self) -> bool:
        """Whether a daemon of one of its steps is there."""
        title, conf = f"slurmstepd: [{self.number}.".encode(), self.cluster.environment["SLURM_CONF"].encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes().startswith(title) and conf in (process / "environ").read_bytes():
                    return True
        return False

    def said(self) -> list[str]:
        """The lines of its log."""
        return (self.folder / f"lora-job-{self.number}.log").read_text().splitlines()

    def log(self) -> str:
        written = self.folder / f"lora-job-{self.number}.log"
        return (written.read_text()[-4000:] if written.exists() else "no log\n") + self.cluster.ask(
            "scontrol", "show", "job", self.number
        )

    def status(self) -> dict:
        return json.loads((self.run / "status.json").read_text())

    def adapter(self) -> torch.Tensor:
        tensors = load_file(self.run / "adapter" / "adapter_model.safetensors")
        return torch.cat([tensors[name].flatten() for name in sorted(tensors)])

    def instead_of_the_program(self, text: str) -> dict[str, str]:
        """The variable for `submit` that lets each task run this shell script instead of the job."""
        program = self.folder / "stand-in" / ".venv" / "bin" / "python"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
        return {"LORA_JOB_HOME": str(self.folder / "stand-in")}
