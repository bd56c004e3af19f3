"""python submit.py --workers N [--cpu] [COMMAND ...]: the job on a Ray cluster, a process a GPU, by Ray Train. See README.md.

Ray places the processes and tells each its rank. Each runs the job's own entrypoint, so that exit codes, signals, resume and the
run's folder are those of every other machine. Ends with the job's exit code, after as many attempts as can help.
"""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

import ray
from ray import train
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from torch import distributed

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from job.config.environment import KNOWN  # noqa: E402  of this repository, wherever Ray unpacked it

RETRYABLE, WORKER_LOST = 128, 138
"""From the first exit code on a retry can help; the second is the job's own where one of its processes is lost."""


class JobEnded(Exception):
    """The job's process of a rank ended with an exit code that is not 0."""


def main(arguments: list[str]) -> int:
    """The job's exit code."""
    parser = argparse.ArgumentParser(description="The job on a Ray cluster, a process a GPU.")
    parser.add_argument("--workers", type=int, required=True, help="processes, one per GPU")
    parser.add_argument("--cpu", action="store_true", help="without GPUs")
    parser.add_argument("--attempts", type=int, default=20, help="in all, where a retry can help")
    parser.add_argument("--storage", default="/tmp/ray-train", help="folder that all machines see, for Ray Train's own records")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of entrypoint.py, with its arguments (default: run)")
    asked = parser.parse_args(arguments)
    ray.init()
    job = {
        "command": [str(ROOT / "entrypoint.py"), *(asked.command or ["run"])],
        "environment": {name: os.environ[name] for name in KNOWN if name in os.environ},
    }
    for attempt in range(1, asked.attempts + 1):
        code = run_once(job, asked.workers, not asked.cpu, asked.storage)
        print(f"attempt {attempt}: exit code {code}", flush=True)
        if code < RETRYABLE:
            break
    return code


def run_once(job: dict, workers: int, use_gpu: bool, storage: str) -> int:
    """The exit code of the job on so many workers; of several that failed, of one that a retry cannot help."""
    trainer = TorchTrainer(
        train_one,
        train_loop_config=job,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(storage_path=storage, failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return min(exit_codes(getattr(error, "worker_failures", {})), default=WORKER_LOST)
    return 0


def exit_codes(failures: dict[int, Exception]) -> list[int]:
    """Those of the ranks whose process ended; Ray may have wrapped the exceptions that say so."""
    found = [getattr(failure, "_base_exc", failure) for failure in failures.values()]
    return [failure.args[0] for failure in found if type(failure).__name__ == JobEnded.__name__]


def train_one(job: dict) -> None:
    """Runs the job's process of this rank. Raises JobEnded."""
    sys.path.insert(0, str(ROOT))
    from job.system.children import die_with_parent  # noqa: PLC0415  in Ray's worker

    context = train.get_context()
    ranks = {"RANK": context.get_world_rank(), "LOCAL_RANK": context.get_local_rank(), "WORLD_SIZE": context.get_world_size()}
    environment = os.environ | job["environment"] | {name: str(rank) for name, rank in ranks.items()} | meeting_place()
    process = subprocess.run([sys.executable, *job["command"]], env=environment, check=False, preexec_fn=die_with_parent)
    if process.returncode:
        raise JobEnded(process.returncode if process.returncode > 0 else WORKER_LOST)


def meeting_place() -> dict[str, str]:
    """Where the job's processes meet, as rank 0 says to all through Ray's own process group."""
    found = [None]
    if distributed.get_rank() == 0:
        with socket.socket() as server:
            server.bind(("", 0))
            found = [(ray.util.get_node_ip_address(), server.getsockname()[1])]
    distributed.broadcast_object_list(found)
    address, port = found[0]
    return {"MASTER_ADDR": address, "MASTER_PORT": str(port)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
