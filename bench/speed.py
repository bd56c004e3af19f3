"""The published recipe against the job: `make bench` on a CPU, `make bench-gpu` on a GPU.

Same model, same rows, same number of steps. Every run is a process of its own, repeats are interleaved, each with its own seed;
the table tells medians, and for ratios their spread. The figures go to bench/results/speed-*.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from job.system.hardware import LEAST_GAIN, bf16_gain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
ROWS, HELD_OUT, BATCH = 64, 16, 8
STEPS = ROWS // BATCH
"""Each row once, whatever their order."""
CUT = {"MAX_SOURCE_LENGTH": "p85", "MAX_TARGET_LENGTH": "p90", "MAX_TRUNCATED_TARGETS": "1"}
"""Rows cut as the recipe cuts them, so that all compute the same tokens."""
PADDED = CUT | {"PADDING_FREE": "false"}
BF16_WIDTH = 512
"""Of FLAN-T5 small."""


@dataclass(frozen=True)
class Contender:
    """One way to train; without variables it is the recipe."""

    name: str
    variables: dict[str, str] | None = None
    memory_gib: float | None = None
    """What the GPU is taken to have."""


RECIPE = Contender("the published recipe")
ON_CPU = (
    RECIPE,
    Contender(
        "padded to the longest row of each batch",
        PADDED | {"PRECISION": "fp32", "TRAIN_SAMPLING_STRATEGY": "random", "GRADIENT_CHECKPOINTING": "true"},
    ),
    Contender("and grouped by length", PADDED | {"PRECISION": "fp32", "GRADIENT_CHECKPOINTING": "true"}),
    Contender("and nothing recomputed", PADDED | {"PRECISION": "fp32"}),
    Contender("and packed: the job in fp32", CUT | {"PRECISION": "fp32"}),
    Contender("the same, blocks recomputed as in the recipe", CUT | {"PRECISION": "fp32", "GRADIENT_CHECKPOINTING": "true"}),
    Contender("the job in fp32, no row cut", {"PRECISION": "fp32"}),
    Contender("the job in bf16", CUT | {"PRECISION": "bf16"}),
)
ON_GPU = (
    RECIPE,
    Contender("the job", CUT),
    Contender("the job in 16 GiB", CUT, memory_gib=15.8),
    Contender("the job, no row cut", {}),
)


def main() -> None:
    """Runs every contender `repeats` times, prints the table and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="on the GPU")
    parser.add_argument("--sizes", help="of FLAN-T5, comma separated")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.gpu and not torch.cuda.is_available():
        parser.error("no GPU is visible")
    contenders, sizes = (ON_GPU, "base,large,xl,xxl") if options.gpu else (ON_CPU, "small")
    if not options.gpu and (gain := bf16_gain(BF16_WIDTH)) < LEAST_GAIN:
        print(f"bf16 is left out: this CPU multiplies it {gain:.2f} times as fast as float32")
        contenders = contenders[:-1]
    for size in (options.sizes or sizes).split(","):
        with tempfile.TemporaryDirectory() as folder:
            python("bench.material", folder, size, str(ROWS), str(HELD_OUT)).check_returncode()
            runs = {contender.name: [] for contender in contenders}
            for seed in range(options.repeats):
                for contender in contenders:
                    runs[contender.name].append(measure(contender, folder, seed))
                    print(f"{size}, seed {seed}, {contender.name}: {runs[contender.name][-1]}", flush=True)
        keep(size, [summarise(name, found, runs[RECIPE.name]) for name, found in runs.items()])


def measure(contender: Contender, folder: str, seed: int) -> dict[str, float | str]:
    """What one run found; {"error": its last line} where it failed, as for want of memory."""
    task = {"variables": contender.variables, "folder": folder, "seed": seed, "steps": STEPS, "memory_gib": contender.memory_gib}
    ended = python("bench.contender", json.dumps(task))
    if ended.returncode:
        return {"error": (ended.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    return json.loads(ended.stdout.splitlines()[-1])


def python(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this project in a process of its own."""
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def summarise(name: str, runs: list[dict], recipe: list[dict]) -> dict:
    """Medians of what the runs found, and of their ratios to the recipe with the same seed."""
    good = [run for run in runs if "error" not in run]
    row = {"name": name} | {key: statistics.median(run[key] for run in good) for key in (good[0] if good else ())}
    pairs = [(run, other) for run, other in zip(runs, recipe, strict=True) if "error" not in run | other]
    ratios = [run["examples_per_s"] / other["examples_per_s"] for run, other in pairs]
    if ratios:
        row |= {"ratio": round(statistics.median(ratios), 2), "ratio_spread": [round(min(ratios), 2), round(max(ratios), 2)]}
    return row | {"runs": runs}


def keep(size: str, table: list[dict]) -> None:
    """Prints the table and writes it beside machine and versions."""
    for row in table:
        if "examples_per_s" not in row:
            print(f"{row['name']:40} {row['runs'][-1]['error']}")
            continue
        print(f"{row['name']:40} {row['examples_per_s']:8.2f} examples/s   x {row.get('ratio', 0):5.2f}   "
              f"padding {row['padding_share']:4.0%}   peak {row['peak_gib']:6.2f} GiB   loss {row['loss']:.4f}")  # fmt: skip
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    facts = {
        "device": device, "cores": os.cpu_count(), "torch": torch.__version__, "transformers": transformers.__version__,
        "model": f"flan-t5-{size}, random weights", "rows": ROWS, "effective_batch_size": BATCH, "table": table,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"speed-{device.replace(' ', '-')}-{size}.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
