"""One run of one contender in a process of its own; its last line is what it found, as JSON."""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from bench import recipe
from job.commands.train import train as train_command
from job.config.environment import read_settings
from job.pipeline import prepare
from job.plan.dimensions import read_dimensions
from job.system.hardware import GIB
from job.training import loop

RUN = "run"


def main() -> None:
    """Trains as the first argument says: {variables, folder, seed, steps, memory_gib}; without variables by the recipe."""
    task, started = json.loads(sys.argv[1]), time.perf_counter()
    folder = Path(task["folder"])
    with tempfile.TemporaryDirectory() as output:
        train = train_by_recipe if task["variables"] is None else train_by_job
        seconds, share = train(task, folder, Path(output))
        found = {"examples_per_s": 8 * task["steps"] / seconds, "training_s": seconds, "all_s": time.perf_counter() - started}
        found |= {"padding_share": share, "peak_gib": peak_gib(), "loss": held_out_loss(folder, Path(output, RUN, "adapter"))}
    is_cut = task["variables"] is None or "MAX_SOURCE_LENGTH" in task["variables"]
    flops = mean_flops(folder, (recipe.SOURCE_PERCENTILE, recipe.TARGET_PERCENTILE) if is_cut else (100, 100))
    flops *= found["examples_per_s"]
    found |= {"useful_tflops_per_s": flops / 1e12, "matmul_tflops_per_s": matmul_flops_per_s() / 1e12}
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


def train_by_recipe(task: dict, folder: Path, output: Path) -> tuple[float, float]:
    """Seconds that training took, and the share of padding."""
    seconds = recipe.train(str(folder / "model"), str(folder / "train.csv"), output / RUN, task["steps"], task["seed"])
    rows = recipe.tokenise(str(folder / "train.csv"), AutoTokenizer.from_pretrained(folder / "model"))
    real = sum(sum(row["attention_mask"]) + sum(token != -100 for token in row["labels"]) for row in rows)
    return seconds, 1 - real / sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)


def train_by_job(task: dict, folder: Path, output: Path) -> tuple[float, float]:
    """The same, of the job's own command `train` with its usual settings, but for the curves and the checkpoints."""
    os.environ |= task["variables"] | {
        "MODEL_ID": str(folder / "model"), "TRAIN_DATA": str(folder / "train.csv"), "EVAL_DATA": str(folder / "held_out.csv"),
        "OUTPUT_DIR": str(output), "LOGS_DIR": str(output), "RUN_NAME": RUN, "SEED": str(task["seed"]),
        "MAX_STEPS": str(task["steps"]), "LOGGING_STEPS": "1", "SAVE_STRATEGY": "no", "EVAL_STRATEGY": "no", "REPORT_TO": "none",
    }  # fmt: skip
    seconds, train, detect = [], loop.train, prepare.detect
    if task["memory_gib"]:
        prepare.detect = lambda device: replace(detect(device), memory_bytes=int(task["memory_gib"] * GIB))

    def timed(*given: object) -> object:
        started = time.perf_counter()
        result = train(*given)
        seconds.append(time.perf_counter() - started)
        return result

    loop.train = timed
    train_command(read_settings())
    history = json.loads((output / RUN / "history.json").read_text())
    return seconds[-1], statistics.mean(entry["padding_share"] for entry in history if "padding_share" in entry)


def held_out_loss(folder: Path, adapter: Path) -> float:
    """Mean cross-entropy of the held-out rows' answers, unquantised, computed the same for every contender."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = AutoModelForSeq2SeqLM.from_pretrained(folder / "model", device_map={"": device})
    model, losses = PeftModel.from_pretrained(base, str(adapter)).eval(), []
    with torch.no_grad():
        for row in Dataset.from_csv(str(folder / "held_out.csv")):
            inputs = tokenizer(row["input"], return_tensors="pt").to(device)
            labels = tokenizer(row["output_ground_truth"], return_tensors="pt").input_ids.to(device)
            losses.append(F.cross_entropy(model(**inputs, labels=labels).logits[0].float(), labels[0]).item())
    return statistics.mean(losses)


def mean_flops(folder: Path, percentiles: tuple[int, int]) -> float:
    """Useful FLOPs a training row: of its real tokens alone, up to these percentiles of all lengths, nothing recomputed."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model", device_map="meta")
    dimensions = read_dimensions(model.config)
    rows = Dataset.from_csv(str(folder / "train.csv"))
    lengths = []
    for column, percentile in zip(("input", "output_ground_truth"), percentiles, strict=True):
        tokens = np.array([len(text.split()) + 1 for text in rows[column]])
        lengths.append(np.minimum(tokens, np.percentile(tokens, percentile)))
    return statistics.mean(dimensions.training_flops(*pair) for pair in zip(*lengths, strict=True))


def matmul_flops_per_s() -> float:
    """What this machine reaches in a large product, in bfloat16 on a GPU, else in float32."""
    on_gpu = torch.cuda.is_available()
    size, repeats = (8192, 20) if on_gpu else (2048, 4)
    left, right = (
        torch.randn(size, size, device="cuda" if on_gpu else "cpu", dtype=torch.bfloat16 if on_gpu else None) for _ in "ab"
    )
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        left @ right
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times)


def peak_gib() -> float:
    """The most memory so far: what the GPU reserved, else what this process held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
