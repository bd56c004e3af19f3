"""The published recipe and a plain script against the job: `make bench` on a CPU, `make bench-gpu` on a GPU.

Same model, same rows, same number of steps. Every run is a process of its own, repeats are interleaved, each with its own seed;
the table tells medians, and for ratios to its first line their spread. On a CPU they are ratios of the seconds of all cores, which
other programs disturb less. The figures go to bench/results/speed-*.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import transformers

from bench.material import MODELS, model_name
from job.system.hardware import LEAST_GAIN, bf16_gain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
ROWS, HELD_OUT, BATCH = 256 if torch.cuda.is_available() else 64, 16, 8
"""A GPU takes some steps to get warm."""
STEPS = ROWS // BATCH
"""Each row once, whatever their order."""
CUT = {"MAX_SOURCE_LENGTH": "p85", "MAX_TARGET_LENGTH": "p90", "MAX_TRUNCATED_TARGETS": "1"}
"""Rows cut as the recipe cuts them, so that all compute the same tokens."""
PADDED = CUT | {"PADDING_FREE": "false"}
BF16_WIDTH = 512
"""Of FLAN-T5 small."""


@dataclass(frozen=True)
class Contender:
    """One way to train."""

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    way: str = "job"
    """Or "recipe", or "plain", whose one variable is PRECISION."""
    memory_gib: float | None = None
    """What the GPU is taken to have."""


RECIPE = Contender("the published recipe", way="recipe")
PLAIN = (
    Contender("a plain script in fp32", {"PRECISION": "fp32"}, "plain"),
    Contender("a plain script in bf16", {"PRECISION": "bf16"}, "plain"),
)
ON_CPU = (
    RECIPE,
    *PLAIN,
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
CAUSAL_ON_CPU = (
    *PLAIN,
    Contender("the job in fp32", CUT | {"PRECISION": "fp32"}),
    Contender("the job in bf16", CUT | {"PRECISION": "bf16"}),
)
ON_GPU = (
    RECIPE,
    PLAIN[1],
    Contender(
        "padded to the longest row of each batch",
        PADDED | {"TRAIN_SAMPLING_STRATEGY": "random", "GRADIENT_CHECKPOINTING": "true"},
    ),
    Contender("and grouped by length", PADDED | {"GRADIENT_CHECKPOINTING": "true"}),
    Contender("and nothing recomputed", PADDED | {"GRADIENT_CHECKPOINTING": "false"}),
    Contender("and packed", CUT | {"PADDING_FREE": "true", "GRADIENT_CHECKPOINTING": "false"}),
    Contender("the job", CUT),
    Contender("the job in 16 GiB", CUT, memory_gib=15.8),
    Contender("the job, no row cut", {}),
)


def main() -> None:
    """Runs every contender `repeats` times, prints the table and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="on the GPU")
    parser.add_argument("--sizes", help="of FLAN-T5, or smollm, comma separated")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.gpu and not torch.cuda.is_available():
        parser.error("no GPU is visible")
    for size in (options.sizes or ("base,large,xl,xxl" if options.gpu else "small,smollm")).split(","):
        contenders = contenders_for(size, options.gpu)
        with tempfile.TemporaryDirectory() as folder:
            python("bench.material", folder, size, str(ROWS), str(HELD_OUT)).check_returncode()
            runs = {contender.name: [] for contender in contenders}
            for seed in range(options.repeats):
                for contender in contenders:
                    runs[contender.name].append(measure(contender, folder, seed))
                    print(f"{size}, seed {seed}, {contender.name}: {runs[contender.name][-1]}", flush=True)
        unit = "examples_per_s" if options.gpu else "rows_per_cpu_s"
        keep(size, unit, [summarise(name, found, runs[contenders[0].name], unit) for name, found in runs.items()])


def contenders_for(size: str, on_gpu: bool) -> tuple[Contender, ...]:
    """Those that this machine can run; a CPU that multiplies bf16 slowly has none of the job in it."""
    if on_gpu:
        return ON_GPU
    contenders, gain = CAUSAL_ON_CPU if size in MODELS else ON_CPU, bf16_gain(BF16_WIDTH)
    if gain >= LEAST_GAIN:
        return contenders
    print(f"bf16 is left out: this CPU multiplies it {gain:.2f} times as fast as float32")
    return tuple(contender for contender in contenders if contender.variables.get("PRECISION") != "bf16")


def measure(contender: Contender, folder: str, seed: int) -> dict[str, float | str]:
    """What one run found; {"error": its last line} where it failed, as for want of memory."""
    ended = python("bench.contender", json.dumps(asdict(contender) | {"folder": folder, "seed": seed, "steps": STEPS}))
    if ended.returncode:
        return {"error": (ended.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    return json.loads(ended.stdout.splitlines()[-1])


def python(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this project in a process of its own."""
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def summarise(name: str, runs: list[dict], first: list[dict], unit: str) -> dict:
    """Medians of what the runs found, and of their ratios in `unit` to the first contender with the same seed."""
    good = [run for run in runs if "error" not in run]
    row = {"name": name} | {key: statistics.median(run[key] for run in good) for key in (good[0] if good else ())}
    pairs = [(run, other) for run, other in zip(runs, first, strict=True) if "error" not in run | other]
    ratios = [run[unit] / other[unit] for run, other in pairs]
    if ratios:
        row |= {"ratio": round(statistics.median(ratios), 2), "ratio_spread": [round(min(ratios), 2), round(max(ratios), 2)]}
    return row | {"runs": runs}


def keep(size: str, unit: str, table: list[dict]) -> None:
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
        "model": f"{model_name(size)}, random weights", "rows": ROWS, "effective_batch_size": BATCH, "unit": unit,
        "table": table,
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"speed-{device.replace(' ', '-')}-{size}.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
