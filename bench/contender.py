"""One run of one contender in a process of its own; its last line is what it found, as JSON."""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    Trainer,
)

from bench import plain, recipe
from job.commands.train import train as train_command
from job.config.environment import read_settings
from job.pipeline import prepare
from job.plan.dimensions import read_dimensions
from job.system.hardware import GIB
from job.training import loop

Value = TypeVar("Value")
RUN = "run"
LEARNING_RATE = 0.003
"""At which the loss of random weights moves within a few steps: who does less shows it."""


def main() -> None:
    """Trains as the first argument says: a `Contender` of bench.speed with folder, seed and steps."""
    task, started = json.loads(sys.argv[1]), time.perf_counter()
    folder, rows = Path(task["folder"]), 8 * task["steps"]
    with tempfile.TemporaryDirectory() as output:
        clock = Clock()
        share = WAYS[task["way"]](task, folder, Path(output), clock)
        found = {"examples_per_s": rows / clock.seconds, "rows_per_cpu_s": rows / clock.cpu_seconds, "training_s": clock.seconds}
        found |= {"all_s": time.perf_counter() - started, "padding_share": share, "peak_gib": peak_gib()}
        found |= {"loss": held_out_loss(folder, Path(output, RUN, "adapter"))}
    is_cut = task["way"] != "job" or "MAX_SOURCE_LENGTH" in task["variables"]
    flops = mean_flops(folder, (recipe.SOURCE_PERCENTILE, recipe.TARGET_PERCENTILE) if is_cut else (100, 100))
    flops *= found["examples_per_s"]
    found |= {"useful_tflops_per_s": flops / 1e12, "matmul_tflops_per_s": matmul_flops_per_s() / 1e12}
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


class Clock:
    """Measures a training: wall clock and the seconds of all cores."""

    seconds = cpu_seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is done inside is measured, and only what was last."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds, self.cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu

    def measured(self, function: Callable[..., Value]) -> Callable[..., Value]:
        """`function`, whose calls are measured."""

        def call(*arguments: object, **named: object) -> Value:
            with self.running():
                return function(*arguments, **named)

        return call


def train_by_recipe(task: dict, folder: Path, output: Path, clock: Clock) -> float:
    """The share of padding."""
    Trainer.train = clock.measured(Trainer.train)
    recipe.train(folder, output / RUN, task["steps"], task["seed"], LEARNING_RATE)
    rows = recipe.tokenise(folder / "train.csv", AutoTokenizer.from_pretrained(folder / "model"))
    real = sum(sum(row["attention_mask"]) + sum(token != -100 for token in row["labels"]) for row in rows)
    return 1 - real / sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)


def train_plainly(task: dict, folder: Path, output: Path, clock: Clock) -> float:
    """The same, of a plain script."""
    Trainer.train = clock.measured(Trainer.train)
    batches, collate = [], DataCollatorForSeq2Seq.__call__

    def noted(collator: DataCollatorForSeq2Seq, rows: list[dict], **named: object) -> object:
        batch = collate(collator, rows, **named)
        real = sum(len(row["input_ids"]) for row in rows), sum(len(row["labels"]) for row in rows)
        batches.append((sum(real), batch["input_ids"].numel() + batch["labels"].numel()))
        return batch

    DataCollatorForSeq2Seq.__call__ = noted
    in_bf16 = task["variables"]["PRECISION"] == "bf16"
    plain.train(folder, output / RUN, task["steps"], task["seed"], LEARNING_RATE, in_bf16)
    return 1 - sum(real for real, _ in batches) / sum(computed for _, computed in batches)


def train_by_job(task: dict, folder: Path, output: Path, clock: Clock) -> float:
    """The same, of the job's own command `train` with its usual settings, but for the curves and the checkpoints."""
    os.environ |= task["variables"] | {
        "MODEL_ID": str(folder / "model"), "TRAIN_DATA": str(folder / "train.csv"), "EVAL_DATA": str(folder / "held_out.csv"),
        "OUTPUT_DIR": str(output), "LOGS_DIR": str(output), "RUN_NAME": RUN, "SEED": str(task["seed"]),
        "MAX_STEPS": str(task["steps"]), "LOGGING_STEPS": "1", "SAVE_STRATEGY": "no", "EVAL_STRATEGY": "no", "REPORT_TO": "none",
        "LEARNING_RATE": str(LEARNING_RATE), "PROMPT_TEMPLATE": "{input}",
        "TARGET_MODULES": "q,v" if plain.is_encoder_decoder(folder) else "q_proj,v_proj",
    }  # fmt: skip
    detect = prepare.detect
    if task["memory_gib"]:
        prepare.detect = lambda device: replace(detect(device), memory_bytes=int(task["memory_gib"] * GIB))
    loop.train = clock.measured(loop.train)
    train_command(read_settings())
    history = json.loads((output / RUN / "history.json").read_text())
    return statistics.mean(entry["padding_share"] for entry in history if "padding_share" in entry)


WAYS = {"recipe": train_by_recipe, "plain": train_plainly, "job": train_by_job}


def load(folder: Path, **place: object) -> PreTrainedModel:
    """The base model."""
    model_class = AutoModelForSeq2SeqLM if plain.is_encoder_decoder(folder) else AutoModelForCausalLM
    return model_class.from_pretrained(folder / "model", **place)


def held_out_loss(folder: Path, adapter: Path) -> float:
    """Mean cross-entropy of the held-out rows' answers, unquantised, computed the same for every contender."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, losses = PeftModel.from_pretrained(load(folder, device_map={"": device}), str(adapter)).eval(), []
    rows = plain.tokenise(folder / "held_out.csv", tokenizer, model.config.is_encoder_decoder)
    with torch.no_grad():
        for row in rows:
            inputs, labels = (torch.tensor([row[name]], device=device) for name in ("input_ids", "labels"))
            losses.append(model(input_ids=inputs, labels=labels).loss.item())
    return statistics.mean(losses)


def mean_flops(folder: Path, percentiles: tuple[int, int]) -> float:
    """Useful FLOPs a training row: of its real tokens alone, up to these percentiles of all lengths, nothing recomputed."""
    dimensions = read_dimensions(AutoConfig.from_pretrained(folder / "model"))
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
