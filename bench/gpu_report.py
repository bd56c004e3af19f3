"""All that needs a GPU, in under 25 minutes: `make gpu-report`. The figures go to one file, bench/results/gpu-<card>.json.

A part is a process of its own under its own time limit; one that fails or is cut off is a line of the report, and keeps what it
had found by then. Beside the file a readable one, .md, is written from it. Models have random weights, made on the card.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import transformers

from bench import plan_accuracy
from bench.contender import mean_flops
from bench.speed import HELD_OUT, ON_GPU, RESULTS, ROOT, ROWS, measure, python
from job.plan.gpu_catalogue import closest_gpu
from job.system.hardware import GIB, detect, gpu_energy_j

LIMITS_S = {"tests": 240, "speed": 480, "memory": 180, "large": 540}
"""24 minutes."""
SHORT_RUN = {
    "DEVICE": "cuda", "RUN_NAME": "r", "MAX_STEPS": "16", "LOGGING_STEPS": "2", "SAVE_STRATEGY": "no", "EVAL_STRATEGY": "no",
    "REPORT_TO": "none", "EVAL_MAX_ROWS": "8", "MAX_NEW_TOKENS": "16", "METRICS": "exact_match",
}  # fmt: skip
MEMORY_GRID = (("small", "base", "large", "xl"), ("bf16",), ((256, 56), (512, 128)), (1, 8), (False, True))
FROM_PLAN = ("precision", "quantization", "micro_batch", "checkpointed_blocks", "padding_free", "predicted_peak_gib", "peak_gib",
             "predicted_examples_per_s", "measured_examples_per_s", "seconds", "energy_j")  # fmt: skip
Rows = Iterator[dict]


def main() -> None:
    """Runs the parts and writes the report; with --into this process is one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma separated, of {', '.join(PARTS)}")
    parser.add_argument("--sizes", default="base", help="of FLAN-T5, for the speed, comma separated")
    parser.add_argument("--large", default="xl,xl:nf4,xxl", help="of FLAN-T5, for whole runs, comma separated; xl:nf4 quantises")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts.split(",")) - set(PARTS):
        parser.error(f"--parts: no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        parser.error("no GPU is visible")
    if options.into:
        return collect(PARTS[options.parts](options), options.into)
    hardware, path = detect("cuda"), RESULTS / f"gpu-{torch.cuda.get_device_name().replace(' ', '-')}.json"
    report = {"device": hardware.describe(), "torch": torch.__version__, "transformers": transformers.__version__, "parts": {}}
    if path.exists() and (before := json.loads(path.read_text()))["torch"] == torch.__version__:
        report["parts"] = before["parts"]  # the parts that were measured before
    for name in options.parts.split(","):
        report["parts"][name] = run_part(name, options)
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        path.with_suffix(".md").write_text(as_page(report))
    print(as_page(report))


def collect(rows: Rows, into: Path) -> None:
    """Writes `rows` to a file as they come; what ends them early is the last one."""
    found: list[dict] = []
    try:
        for row in rows:
            found.append(row)
            print(row, flush=True)
            into.write_text(json.dumps(found))
    except subprocess.CalledProcessError as error:
        into.write_text(json.dumps([*found, {"error": (error.stderr or str(error)).strip().splitlines()[-1][:300]}]))
        raise
    except Exception as error:
        into.write_text(json.dumps([*found, {"error": f"{type(error).__name__}: {error}"[:300]}]))
        raise


def run_part(name: str, options: argparse.Namespace) -> dict:
    """What a part found, in a process of its own: its rows, seconds, the GPU's joules, and how it ended if not well."""
    started, joules = time.perf_counter(), gpu_energy_j()
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "rows.json"
        arguments = ["--parts", name, "--sizes", options.sizes, "--large", options.large, "--into", str(into)]
        process = subprocess.Popen([sys.executable, "-m", "bench.gpu_report", *arguments], cwd=ROOT, start_new_session=True)
        try:
            code, ended = process.wait(timeout=LIMITS_S[name]), "well"
            if code:
                ended = f"exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            ended = f"cut off after {LIMITS_S[name]} s"
        rows = json.loads(into.read_text()) if into.exists() else []
    used = None if joules is None or (now := gpu_energy_j()) is None else round(now - joules)
    return {"ended": ended, "seconds": round(time.perf_counter() - started), "energy_j": used, "rows": rows}


def tests(_options: argparse.Namespace) -> Rows:
    """`tests/gpu`: one row, pytest's last line. Raises SystemExit where one fails."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/gpu", "-q", "--numprocesses", "3", "-p", "no:cacheprovider"], cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in ended.stdout.splitlines() if line.startswith("FAILED") or " passed" in line or " failed" in line]
    yield {"tests": "; ".join(lines) or ended.stderr[-300:]}
    if ended.returncode:
        raise SystemExit(ended.returncode)


def speed(options: argparse.Namespace) -> Rows:
    """Each lever's examples a second, and its MFU: useful FLOPs over the card's dense peak."""
    for size in options.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            python("bench.material", folder, size, str(ROWS), str(HELD_OUT)).check_returncode()
            for contender in ON_GPU:
                found = measure(contender, folder, seed=0)
                if "useful_tflops_per_s" in found:
                    found["mfu"] = round(found["useful_tflops_per_s"] / dense_tflops("bf16"), 4)
                yield {"size": size, "name": contender.name} | found


def memory(_options: argparse.Namespace) -> Rows:
    """Predicted and measured memory of a training step, over a grid."""
    yield from plan_accuracy.measure(MEMORY_GRID)


def large(options: argparse.Namespace) -> Rows:
    """A whole run of each size: what was planned, and speed, MFU, peaks and joules of each stage."""
    for run in options.large.split(","):
        size, _, quantization = run.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            python("bench.material", folder, size, "128", str(HELD_OUT)).check_returncode()
            files = {"MODEL_ID": "model", "TRAIN_DATA": "train.csv", "EVAL_DATA": "held_out.csv"}
            environment = os.environ | SHORT_RUN | files | {"QUANTIZATION": quantization or "auto"}
            command = [sys.executable, str(ROOT / "entrypoint.py"), "run"]
            ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            row = {"size": size, "exit_code": ended.returncode}
            if ended.returncode:
                yield row | {"said": (ended.stdout + ended.stderr)[-500:]}
                continue
            plan = json.loads(Path(folder, "output/r/plan.json").read_text())
            flops = mean_flops(Path(folder), (100, 100)) * plan["measured_examples_per_s"]
            yield row | {name: plan[name] for name in FROM_PLAN} | {"mfu": round(flops / 1e12 / dense_tflops(plan["precision"]), 4)}


def dense_tflops(precision: str) -> float:
    """The card's dense peak by the catalogue of GPUs."""
    hardware = detect("cuda")
    rates = closest_gpu(hardware.name, hardware.memory_bytes / GIB, hardware.capability).dense_tflops
    return rates.get(precision, rates["fp16"])


def as_page(report: dict) -> str:
    """The report for a person: a table a part."""
    lines = [f"# {report['device']}\n", f"torch {report['torch']}, transformers {report['transformers']}\n"]
    for name, part in report["parts"].items():
        joules = "" if part["energy_j"] is None else f", {part['energy_j'] / 1000:.1f} kJ"
        lines.append(f"## {name}\n\nended {part['ended']}, {part['seconds']} s{joules}\n")
        heads = list(dict.fromkeys(head for row in part["rows"] for head in row))
        if heads:
            cells = [heads, ["---"] * len(heads), *([_cell(row.get(head)) for head in heads] for row in part["rows"])]
            lines += [f"| {' | '.join(row)} |" for row in cells] + [""]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    return "" if value is None else str(round(value, 4) if isinstance(value, float) else value).replace("|", "/").replace("\n", " ")


PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {"tests": tests, "speed": speed, "memory": memory, "large": large}

if __name__ == "__main__":
    main()
