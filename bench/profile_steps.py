"""Where the time of a training step goes: `make profile`. Any of the job's variables may be set before it.

Prints what took longest and writes a trace of some steps to logs/profile/, for TensorBoard or https://ui.perfetto.dev.
"""

import os
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from job.commands.train import train as train_command
from job.config.environment import read_settings
from job.training.loop import Training

STEPS = {"wait": 2, "warmup": 1, "active": 5}
FOLDER = Path("logs/profile")
LINES = 20


def main() -> None:
    """Trains a few steps under the profiler."""
    with tempfile.TemporaryDirectory() as output:
        os.environ |= {"OUTPUT_DIR": output, "MAX_STEPS": str(sum(STEPS.values())), "REPORT_TO": "none"}
        os.environ |= {"SAVE_STRATEGY": "no", "EVAL_STRATEGY": "no", "LOGS_DIR": output}
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
        with profile(activities=activities, schedule=schedule(**STEPS), profile_memory=True, on_trace_ready=_keep) as profiler:
            step = Training.step

            def marked(training: Training) -> object:
                requests = step(training)
                profiler.step()
                return requests

            Training.step = marked
            train_command(read_settings())


def _keep(profiler: profile) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "steps.pt.trace.json"
    profiler.export_chrome_trace(str(path))
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=LINES, max_name_column_width=48))
    print(f"trace: {path}")


if __name__ == "__main__":
    main()
