"""Training: splitting a batch never changes the result, and what is logged is what happened."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainingArguments, set_seed

from job.errors import Diverged
from job.model import BaseModel, add_lora, load_base
from job.training.trainer import LoraTrainer


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


def make_trainer(folder, tmp_path, *, accumulation: int = 1, steps: int = 3) -> LoraTrainer:
    set_seed(0)
    seq2seq = "t5" in folder.name
    base = load_base(BaseModel(str(folder)), seq2seq, torch.float32, None, "cpu")
    targets, kind = (["q", "v"], "SEQ_2_SEQ_LM") if seq2seq else (["q_proj", "v_proj"], "CAUSAL_LM")
    model = add_lora(base, LoraConfig(task_type=kind, r=4, target_modules=targets, lora_dropout=0.0))
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=steps,
        per_device_train_batch_size=8 // accumulation,
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
    return LoraTrainer(model, args, (data, data.select(range(4))), AutoTokenizer.from_pretrained(folder), [])


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
