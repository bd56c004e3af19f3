"""A training on tiny models and random rows, in this process or as one rank of several."""

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.distributed.tensor import DTensor
from transformers import AutoTokenizer, set_seed

from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.model.packed_attention import accept_packed
from job.model.packing import collator
from job.model.sharding import shard_base
from job.system.ranks import Ranks, this_rank
from job.training import step
from job.training.config import TrainingConfig
from job.training.loop import Surroundings, Training, TrainingResult, train
from job.training.supervision import Supervision

ROOT = Path(__file__).parents[2]


def rows(count: int, causal: bool) -> Dataset:
    """Rows of many lengths, random ids."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for _ in range(count):
        source_length, target_length = (int(torch.randint(1, most, (1,), generator=generator)) for most in (20, 9))
        source = torch.randint(3, 380, (source_length,), generator=generator).tolist()
        target = torch.randint(3, 380, (target_length,), generator=generator).tolist()
        both = {"input_ids": source + target, "labels": [-100] * len(source) + target}
        made.append((both if causal else {"input_ids": source, "labels": target}) | {"length": len(source) + len(target)})
    return Dataset.from_list(made)


def make_model(folder: Path, dtype: torch.dtype = torch.float32, dropout: float = 0.0, sharded: bool = False):
    """A tiny model with a new adapter, the same each time."""
    set_seed(0)
    seq2seq = "t5" in folder.name
    base = load_base(BaseModel(str(folder)), seq2seq, dtype, None, "cpu", sharded)
    targets, kind = (["q", "v"], "SEQ_2_SEQ_LM") if seq2seq else (["q_proj", "v_proj"], "CAUSAL_LM")
    return add_lora(base, LoraConfig(task_type=kind, r=4, target_modules=targets, lora_dropout=dropout))


def make_config(checkpoints: Path, **changes: object) -> TrainingConfig:
    usual = {
        "effective_batch_size": 8, "max_steps": 5, "learning_rate": 1e-2, "logging_steps": 1, "seed": 5,
        "save_strategy": "no", "eval_strategy": "no",
    }  # fmt: skip
    return TrainingConfig(checkpoints, **usual | changes)


def make_training(
    folder: Path, checkpoints: Path, *, micro_batch: int = 8, packed: bool = False, dtype: torch.dtype = torch.float32,
    dropout: float = 0.0, supervision: Supervision | None = None, ranks: Ranks | None = None, reporters: tuple = (),
    sharded: bool = False, **changes: object,
) -> tuple:  # fmt: skip
    """The arguments of `train`; `sharded` needs `ranks` that have joined."""
    model = make_model(folder, dtype, dropout, sharded)
    if packed:
        accept_packed(model.get_base_model())
    if sharded:
        shard_base(model, "cpu", ranks.world_size)
    data = rows(30, "llama" in folder.name)
    collate = collator(model, AutoTokenizer.from_pretrained(folder))
    surroundings = Surroundings(supervision or Supervision(), reporters, ranks or Ranks())
    return model, (data, data.select(range(5))), collate, make_config(checkpoints, **changes), micro_batch, surroundings


def run(folder: Path, checkpoints: Path, **options: object) -> tuple[torch.Tensor, TrainingResult]:
    """The adapter after a training, as one vector, and its result."""
    model, result = trained(folder, checkpoints, **options)
    return adapter_of(model), result


def trained(folder: Path, checkpoints: Path, **options: object) -> tuple[torch.nn.Module, TrainingResult]:
    arguments = make_training(folder, checkpoints, **options)
    return arguments[0], train(*arguments)


def begun(folder: Path, checkpoints: Path, **options: object) -> Training:
    """A training before its first step."""
    training = Training(*make_training(folder, checkpoints, **options))
    training.resume()
    return training


def adapter_of(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters() if parameter.requires_grad])


def base_bytes(model: torch.nn.Module) -> int:
    """What this process holds of the frozen parameters."""
    frozen = (parameter for parameter in model.parameters() if not parameter.requires_grad)
    return sum((parameter.to_local() if isinstance(parameter, DTensor) else parameter).nbytes for parameter in frozen)


def losses_of(result: TrainingResult) -> list[float]:
    return [entry["loss"] for entry in result.history if "loss" in entry]


def limited(objective: type, most: int) -> type:
    """The objective on a device whose memory holds so many rows at once."""

    class Limited(objective):
        def __call__(self, model: torch.nn.Module, batch: dict) -> torch.Tensor:
            if len(batch["attention_mask"]) > most:
                raise torch.OutOfMemoryError("injected")
            return super().__call__(model, batch)

    return Limited


def main(task: dict) -> None:
    """One rank of a training; rank 0 writes what came out to `task["output"]`."""
    torch.set_num_threads(1)
    ranks = this_rank()
    ranks.join("cpu")
    stop_after = task.pop("stop_after", None)
    output, folder, checkpoints = (Path(task.pop(name)) for name in ("output", "folder", "checkpoints"))
    asked = {"times": 0}
    if (most := task.pop("rows_that_fit", None)) and ranks.rank == ranks.world_size - 1:
        step.Objective = limited(step.Objective, most)

    def stop_asked() -> bool:
        asked["times"] += 1
        return stop_after is not None and ranks.rank == ranks.world_size - 1 and asked["times"] > stop_after

    model, result = trained(folder, checkpoints, ranks=ranks, supervision=Supervision(stop_asked=stop_asked), **task)
    if ranks.is_main:
        torch.save({"adapter": adapter_of(model), "result": asdict(result), "base_bytes": base_bytes(model)}, output)


def forked(variables: dict[str, str], task: dict, log: Path) -> int:
    """The process of a rank, forked from this one; what it says goes to `log`."""
    process = os.fork()
    if process:
        return process
    exit_code = 1
    try:
        with log.open("w") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        os.environ |= variables
        main(task)
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(exit_code)


if __name__ == "__main__":  # one import of torch for many trainings: an order a line, answered by the ranks' exit codes
    for line in sys.stdin:
        order = json.loads(line)
        ranks = [forked(variables, order["task"], Path(log)) for variables, log in order["ranks"]]
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]), flush=True)
