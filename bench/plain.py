"""What a competent person writes with today's transformers and PEFT: each batch padded to its longest row, nothing recomputed."""

from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from bench.recipe import longest_kept


def train(folder: Path, output: Path, steps: int, seed: int, learning_rate: float, in_bf16: bool) -> None:
    """Trains `model` on `train.csv` of `folder`, rows cut as the recipe cuts them; the adapter is in `output`."""
    tokenizer, is_seq2seq = AutoTokenizer.from_pretrained(folder / "model"), is_encoder_decoder(folder)
    model_class = AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM
    on_gpu = torch.cuda.is_available()
    model = model_class.from_pretrained(folder / "model", dtype=torch.bfloat16 if in_bf16 and on_gpu else torch.float32)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"] if is_seq2seq else ["q_proj", "v_proj"],
        task_type=TaskType.SEQ_2_SEQ_LM if is_seq2seq else TaskType.CAUSAL_LM,
    )  # fmt: skip
    model = get_peft_model(model, config)
    model.config.use_cache = False
    arguments = TrainingArguments(
        output_dir=str(output), per_device_train_batch_size=8, learning_rate=learning_rate, max_steps=steps, bf16=in_bf16,
        logging_steps=1, save_strategy="no", report_to="none", seed=seed, use_cpu=not on_gpu, disable_tqdm=True,
    )  # fmt: skip
    rows = tokenise(folder / "train.csv", tokenizer, is_seq2seq)
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    Trainer(model=model, args=arguments, data_collator=collator, train_dataset=rows).train()
    model.save_pretrained(output / "adapter")


def is_encoder_decoder(folder: Path) -> bool:
    """Whether `model` of `folder` is one."""
    return AutoConfig.from_pretrained(folder / "model").is_encoder_decoder


def tokenise(table: Path, tokenizer: PreTrainedTokenizerBase, is_seq2seq: bool) -> Dataset:
    """The rows of a csv file as ids; a causal model's are input, answer and the end, of which the input is not learnt."""
    rows = Dataset.from_csv(str(table))
    source, target = longest_kept(rows, tokenizer)

    def encode(row: dict) -> dict:
        inputs = tokenizer(row["input"], max_length=source, truncation=True)["input_ids"]
        labels = tokenizer(row["output_ground_truth"], max_length=target, truncation=True)["input_ids"]
        if not is_seq2seq:
            labels.append(tokenizer.eos_token_id)
            inputs, labels = inputs + labels, [-100] * len(inputs) + labels
        return {"input_ids": inputs, "attention_mask": [1] * len(inputs), "labels": labels}

    return rows.map(encode, remove_columns=rows.column_names)
