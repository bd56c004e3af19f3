"""Training: splitting a batch never changes the result, and what is logged is what happened."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainingArguments, set_seed

from job.errors import Diverged
from job.model.load import BaseModel, load_base
from job.model.lora import add_lora
from job.training.supervision import Supervision
from job.training.trainer import LoraTrainer

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


def make_trainer(
    folder,
    tmp_path,
    *,
    accumulation: int = 1,
    steps: int = 3,
    dtype: torch.dtype = torch.float32,
    eval_batch_size: int | None = None,
) -> LoraTrainer:
    set_seed(0)
    seq2seq = "t5" in folder.name
    base = load_base(BaseModel(str(folder)), seq2seq, dtype, None, "cpu")
    targets, kind = (["q", "v"], "SEQ_2_SEQ_LM") if seq2seq else (["q_proj", "v_proj"], "CAUSAL_LM")
    model = add_lora(base, LoraConfig(task_type=kind, r=4, target_modules=targets, lora_dropout=0.0))
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=steps,
        per_device_train_batch_size=eval_batch_size or 8 // accumulation,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        seed=5,
        train_sampling_strategy="group_by_length",
    )
    data = rows(30, not seq2seq)
    return LoraTrainer(model, args, (data, data.select(range(4))), AutoTokenizer.from_pretrained(folder), Supervision())


def adapter_of(trainer: LoraTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters() if parameter.requires_grad])


def losses_of(trainer: LoraTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_gradient_accumulation_changes_neither_loss_nor_adapter(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    whole = make_trainer(folder, tmp_path)
    whole.train()
    for accumulation in (2, 4, 8):
        split = make_trainer(folder, tmp_path, accumulation=accumulation)
        split.train()
        assert losses_of(split) == pytest.approx(losses_of(whole), rel=1e-6)
        difference = (adapter_of(split) - adapter_of(whole)).norm() / adapter_of(whole).norm()
        assert difference < 1e-5


@pytest.mark.parametrize(("kind", "accumulation"), [("t5_folder", 2), ("llama_folder", 1)])
def test_two_processes_change_neither_loss_nor_adapter(kind, accumulation, request, tmp_path):
    folder = request.getfixturevalue(kind)
    whole = make_trainer(folder, tmp_path)
    whole.train()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    script = [sys.executable, "-W", "ignore", "-m", "tests.training.two_processes", folder, tmp_path, str(accumulation)]
    done = subprocess.run([*torchrun, *script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "result.pt")
    assert found["losses"] == pytest.approx(losses_of(whole), rel=1e-6)
    assert (found["adapter"] - adapter_of(whole)).norm() / adapter_of(whole).norm() < 1e-5


def test_the_first_logged_loss_is_the_models_own_mean_over_the_labels(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path, accumulation=4, steps=1)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in list(trainer._get_train_sampler())[:8]])
    base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu").eval()
    with torch.no_grad():
        expected = base(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]).loss.item()
    trainer.train()
    assert losses_of(trainer)[0] == pytest.approx(expected, rel=1e-5)


def test_the_padding_share_and_the_speed_are_those_of_the_batch(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path, steps=1)
    chosen = [trainer.train_dataset[index] for index in list(trainer._get_train_sampler())[:8]]
    tokens = sum(len(row["input_ids"]) + len(row["labels"]) for row in chosen)
    width = sum(-(-max(len(row[side]) for row in chosen) // 8) * 8 for side in ("input_ids", "labels"))
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["padding_share"] == pytest.approx(1 - tokens / (8 * width), abs=1e-9)
    assert logged["tokens_per_second"] / logged["examples_per_second"] == pytest.approx(tokens / 8)


def test_the_evaluation_loss_of_a_batch_is_the_mean_over_its_labels(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path)
    with torch.no_grad():
        base = load_base(BaseModel(str(t5_folder)), True, torch.float32, None, "cpu").eval()
        sums = [
            base(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item() * len(row["labels"])
            for row in trainer.eval_dataset
        ]
    expected = sum(sums) / sum(len(row["labels"]) for row in trainer.eval_dataset)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_training(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path)
    with torch.no_grad():
        trainer.model.get_base_model().lm_head.weight[0, 0] = float("nan")
    with pytest.raises(Diverged, match="step 1: loss is nan"):
        trainer.train()


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_float16_with_loss_scaling_trains_as_float32_does(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    exact, half = (make_trainer(folder, tmp_path, dtype=dtype, steps=4) for dtype in (torch.float32, torch.float16))
    exact.train()
    half.train()
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters() if parameter.requires_grad)
    assert half.skipped_steps == 0
    assert losses_of(half) == pytest.approx(losses_of(exact), rel=5e-3)
    norms = [[entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry] for trainer in (half, exact)]
    assert norms[0] == pytest.approx(norms[1], rel=0.02), "gradients are unscaled before they are clipped"


def overflowing(trainer: LoraTrainer, steps: set[int]) -> None:
    """Makes the gradient infinite in these steps."""
    parameter = next(parameter for parameter in trainer.model.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda gradient: gradient * float("inf" if trainer.state.global_step in steps else 1))


def test_a_gradient_that_is_not_finite_skips_its_step_and_halves_the_scale(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path, dtype=torch.float16, steps=4)
    overflowing(trainer, {1})
    trainer.train()
    scales = [entry["loss_scale"] for entry in trainer.state.log_history if "loss_scale" in entry]
    assert scales == [2**16, 2**15, 2**15, 2**15]
    assert trainer.state.log_history[-2]["skipped_steps"] == trainer.skipped_steps == 1
    assert torch.isfinite(adapter_of(trainer)).all()


def test_gradients_that_are_never_finite_end_the_training(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path, dtype=torch.float16, steps=60)
    overflowing(trainer, set(range(60)))
    with pytest.raises(Diverged, match="the gradient was not finite in 25 steps in a row"):
        trainer.train()


def test_the_loss_scale_is_part_of_a_checkpoint(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path, dtype=torch.float16, steps=2)
    trainer.args.save_strategy, trainer.args.save_steps = "steps", 2
    trainer.state.save_steps = 2
    overflowing(trainer, {0})
    trainer.train()
    trainer._save_checkpoint(trainer.model, trial=None)
    assert torch.load(tmp_path / "checkpoint-2" / "scaler.pt")["scale"] == 2**15


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_the_loss_of_the_held_out_rows_is_a_mean_over_labels_whatever_the_batch(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    losses = []
    for at_once in (1, 3, 4):
        trainer = make_trainer(folder, tmp_path)
        trainer.args.per_device_eval_batch_size = at_once
        losses.append(trainer.evaluate()["eval_loss"])
    model, total, count = trainer.model.eval(), 0.0, 0
    for row in rows(30, "llama" in str(folder)).select(range(4)):
        inputs, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            if "llama" in str(folder):
                logits, labels = model(input_ids=inputs).logits[:, :-1], labels[:, 1:]
            else:
                logits = model(input_ids=inputs, labels=labels).logits
        likelihoods = logits[0].double().log_softmax(-1)
        for place, label in enumerate(labels[0].tolist()):
            if label >= 0:
                total, count = total - likelihoods[place, label].item(), count + 1
    assert losses == pytest.approx([total / count] * 3, rel=1e-5)


def test_what_is_examined_at_an_evaluation_is_logged_with_it(t5_folder, tmp_path):
    trainer = make_trainer(t5_folder, tmp_path)
    trainer.supervisor.supervision = Supervision(score_answers=lambda step: {"exact_match": step + 0.5})
    trainer.train()
    assert trainer.evaluate()["eval_exact_match"] == 3.5
    assert trainer.state.log_history[-1]["eval_exact_match"] == 3.5
