"""Preparing and training on more and more rows of a parquet file: `make bench-scale`. Memory and speed must stay as they are.

The model is the embedded one; each number of rows is a process of its own. The figures go to bench/results/scale-*.json.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
ROWS = (1_000, 10_000, 100_000, 1_000_000)
ROWS_AT_ONCE = 10_000
WORDS = ("meeting", "noon", "Monday", "with", "Anna", "Peter", "moved", "to", "Friday", "please", "confirm")
STEPS = 60


def main() -> None:
    """Prints a line a number of rows, and keeps all."""
    table = []
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            write_rows(Path(folder) / "rows.parquet", rows)
            table.append(measure(Path(folder), rows))
            print(table[-1], flush=True)
    device = f"{platform.machine()} CPU"
    facts = {"device": device, "cores": os.cpu_count(), "steps": STEPS, "table": table}
    (ROOT / "bench" / "results" / f"scale-{device.replace(' ', '-')}.json").write_text(json.dumps(facts, indent=1) + "\n")


def write_rows(path: Path, rows: int) -> None:
    """A parquet file of synthetic rows of 5 to 60 words, no two alike, written as a stream."""
    generator = np.random.default_rng(0)
    schema = pa.schema({"input": pa.string(), "output_ground_truth": pa.string()})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            numbers = range(start, min(rows, start + ROWS_AT_ONCE))
            inputs = [f"{number} " + " ".join(generator.choice(WORDS, generator.integers(5, 60))) for number in numbers]
            answers = [" ".join(generator.choice(WORDS, generator.integers(1, 8))) for _ in numbers]
            writer.write_table(pa.table({"input": inputs, "output_ground_truth": answers}, schema=schema))


def measure(folder: Path, rows: int, steps: int = STEPS) -> dict[str, float]:
    """Peak memory of all processes of the job (GiB), seconds, and rows a second in training."""
    environment = os.environ | {
        "MODEL_ID": "demo", "TRAIN_DATA": str(folder / "rows.parquet"), "OUTPUT_DIR": str(folder), "LOGS_DIR": str(folder),
        "RUN_NAME": "run", "MAX_STEPS": str(steps), "LOGGING_STEPS": "5", "SAVE_STRATEGY": "no", "EVAL_STRATEGY": "no",
        "REPORT_TO": "none", "HF_HOME": str(folder / "hf"), "DEVICE": "cpu",
    }  # fmt: skip
    started = time.perf_counter()
    seconds, peaks = {}, [0]
    for command in ("prepare", "train"):
        begun = time.perf_counter()
        with (folder / f"{command}.log").open("w") as log:
            job = subprocess.Popen([sys.executable, "entrypoint.py", command], cwd=ROOT, env=environment, stdout=log, stderr=log)
            while job.poll() is None:
                peaks.append(_held_bytes(job.pid))
                time.sleep(0.2)  # looking takes time of its own
        if job.returncode:
            raise RuntimeError((folder / f"{command}.log").read_text()[-2000:])
        seconds[command] = time.perf_counter() - begun
    history = json.loads((folder / "run" / "history.json").read_text())
    speeds = [entry["examples_per_second"] for entry in history if "examples_per_second" in entry][1:]
    found = {"peak_gib": max(peaks) / 2**30, "prepare_s": seconds["prepare"], "train_s": seconds["train"]}
    found |= {"examples_per_s": float(np.median(speeds)), "all_s": time.perf_counter() - started}
    return {"rows": rows} | {name: round(value, 2) for name, value in found.items()}


def _held_bytes(pid: int) -> int:
    """Memory of a process and its children that is no file's: what a machine must have. Shared pages count once."""
    held = 0
    with contextlib.suppress(psutil.Error, OSError):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            held += 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon"))
    return held


if __name__ == "__main__":
    main()
