"""Predicted against real peak memory of a training step, over a grid: `make bench-plan`.

On a GPU: the formula against torch.cuda.max_memory_allocated, reserved beside it. On a CPU: the simulation against the same tracker
over real tensors. Models have random weights. The table goes to the terminal, the figures to bench/results/.
"""

import gc
import itertools
import json
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSeq2SeqLM

from job.model.checkpointing import checkpoint_blocks
from job.model.kernels import fuse_gelu, fuse_norms
from job.plan.dimensions import read_dimensions
from job.plan.memory import ADAPTER_WIDTH, GIB, TrainingPlan, activation_bytes, weights_bytes
from job.plan.model_catalogue import known_config
from job.plan.simulate import Batch, run_tracked, simulate_training_step

RESULTS = Path(__file__).parent / "results"
LORA = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ALL_BLOCKS = 1000
GPU_GRID = (("small", "base", "large", "xl"), ("bf16", "fp32"), ((256, 56), (512, 128)), (1, 8), (False, True))
CPU_GRID = (("small",), ("fp32", "bf16"), ((64, 16), (128, 32)), (2,), (False, True))


def main() -> None:
    """Prints a row a case and writes all of them."""
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} CPU"
    rows = []
    for row in measure(GPU_GRID if on_gpu else CPU_GRID):
        rows.append(row)
        print(f"{row['size']:6} {row['precision']} {row['batch']} checkpointed={row['checkpointed']!s:5} "
              f"predicted {row['predicted_gib']:.3f} real {row['real_gib']:.3f} GiB, ratio {row['ratio']}", flush=True)  # fmt: skip
    ratios = sorted(row["ratio"] for row in rows)
    summary = {
        "device": device,
        "torch": torch.__version__,
        "lowest": ratios[0],
        "median": ratios[len(ratios) // 2],
        "highest": ratios[-1],
    }
    print(summary)
    name = f"plan-accuracy-{device.replace(' ', '-')}.json"
    (RESULTS / name).write_text(json.dumps(summary | {"cases": rows}, indent=1) + "\n")


def measure(grid: tuple) -> Iterator[dict]:
    """A row for each case of the grid: sizes, precisions, lengths, micro-batches, checkpointed or not."""
    for size, precision, lengths, micro_batch, checkpointed in itertools.product(*grid):
        batch = Batch(micro_batch, *lengths)
        row = {"size": size, "precision": precision, "batch": [micro_batch, *lengths], "checkpointed": checkpointed}
        row |= (measure_on_gpu if torch.cuda.is_available() else measure_on_cpu)(size, precision, batch, checkpointed)
        yield row | {"ratio": round(row["predicted_gib"] / row["real_gib"], 3)}


def build(size: str, precision: str, checkpointed: bool, device: str) -> PeftModel:
    """FLAN-T5 of this size with random weights, an lm_head of its own, and an adapter."""
    with torch.device(device):
        model = AutoModelForSeq2SeqLM.from_config(known_config(f"google/flan-t5-{size}"), dtype=DTYPES[precision])
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    fuse_gelu(model)
    if device != "cpu":
        fuse_norms(model)
    model = get_peft_model(model.requires_grad_(False), LORA).train()
    model.config.use_cache = False
    checkpoint_blocks(model, ALL_BLOCKS if checkpointed else 0)
    return model


def measure_on_cpu(size: str, precision: str, batch: Batch, checkpointed: bool) -> dict[str, float]:
    """Simulated and real peak of live storages, with the CPU's own kernels in both."""
    config = known_config(f"google/flan-t5-{size}")
    adapt, blocks = partial(get_peft_model, peft_config=LORA), ALL_BLOCKS if checkpointed else 0
    predicted = simulate_training_step(config, adapt, DTYPES[precision], batch, blocks, on_cuda=False).peak
    real = run_tracked(build(size, precision, checkpointed, "cpu"), batch).peak
    gc.collect()
    return {"predicted_gib": predicted / GIB, "real_gib": real / GIB}


def measure_on_gpu(size: str, precision: str, batch: Batch, checkpointed: bool) -> dict[str, float]:
    """The formula, and what CUDA's allocator saw."""
    dimensions = read_dimensions(known_config(f"google/flan-t5-{size}"))
    plan = TrainingPlan(precision, "none", batch.rows, dimensions.blocks if checkpointed else 0)
    predicted = (
        weights_bytes(dimensions, precision, "none")
        + ADAPTER_WIDTH * dimensions.adapter(16)
        + activation_bytes(dimensions, plan, batch)
    )
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        run_tracked(build(size, precision, checkpointed, "cuda"), batch, steps=3)
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"predicted_gib": predicted / GIB, "real_gib": allocated / GIB, "reserved_gib": reserved / GIB}


if __name__ == "__main__":
    main()
