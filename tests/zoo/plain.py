"""The same as the job computes, with transformers and PEFT alone: answers, loss and gradient."""

import re
from contextlib import redirect_stdout
from io import StringIO

import torch
from datasets import load_from_disk
from peft import PeftModel
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tests.zoo.runs import VARIABLES, Run

COMPARED_ROWS, ASKED_ROWS = 6, 3
ONLY_FLOAT32 = ("xglm", "t5gemma", "led", "gemma2", "vaultgemma")
"""Families whose masks in the library overflow in float64."""


def load(run: Run, folder: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model in a folder of the run, as transformers loads it."""
    auto = AutoModelForSeq2SeqLM if run.seq2seq else AutoModelForCausalLM
    return auto.from_pretrained(run.folder / folder, dtype=dtype, experts_implementation="eager")  # the only one with float64


def adapted_model(run: Run) -> PeftModel:
    """The published adapter on its base, in float64 if its family can."""
    dtype = torch.float32 if run.family in ONLY_FLOAT32 else torch.float64
    model = PeftModel.from_pretrained(load(run, "base", dtype), run.output / "adapter", is_trainable=True).eval().to(dtype)
    model.get_base_model().generation_config = GenerationConfig.from_pretrained(run.output / "adapter")
    model.config.use_cache = False  # as in training
    return model


def questions(run: Run) -> list[tuple[str, str]]:
    """A few held-out inputs, and the adapter's answers to them."""
    return list(zip(run.answers["input"], run.answers["adapter_output"], strict=True))[:ASKED_ROWS]


def generated(run: Run, folder: str, question: str) -> str:
    """What `generate` gives for a question with nothing but its length set, by the model and the tokenizer of a folder."""
    model, tokenizer = load(run, folder), AutoTokenizer.from_pretrained(run.folder / folder)
    inputs = tokenizer(_prompt(run, question), return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=VARIABLES["MAX_NEW_TOKENS"])[0]
    tokens = [token for token in tokens if token != model.generation_config.forced_bos_token_id]  # M2M100's languages are text
    return _without_prompt(run, tokenizer, question, tokenizer.decode(tokens, skip_special_tokens=True))


def printed_by_card(run: Run, question: str) -> str:
    """What the program on the adapter's model card prints for a question."""
    adapter, printed = run.output / "adapter", StringIO()
    program = re.search(r"```python\n(.*?)```", (adapter / "README.md").read_text(), re.DOTALL)[1]
    with redirect_stdout(printed):
        exec(program.replace("path/to/this/folder", str(adapter)).replace("{input}", question), {})
    return _without_prompt(run, AutoTokenizer.from_pretrained(adapter), question, printed.getvalue())


def _prompt(run: Run, question: str) -> str:
    return f"Input: {question}" if run.seq2seq else f"Input: {question}\n"


def _without_prompt(run: Run, tokenizer: PreTrainedTokenizerBase, question: str, text: str) -> str:
    """`text` without the prompt, which a causal model repeats."""
    repeated = "" if run.seq2seq else tokenizer.decode(tokenizer(_prompt(run, question)).input_ids, skip_special_tokens=True)
    return text.strip().removeprefix(repeated.strip()).strip()


def compared_rows(run: Run) -> list[dict]:
    """Prepared rows of different lengths, the longest among them."""
    data = load_from_disk(run.output / "data" / "train")
    chosen = sorted(data, key=lambda row: row["length"], reverse=True)[:: len(data) // COMPARED_ROWS]
    return [{name: row[name] for name in ("input_ids", "labels")} for row in chosen]


def loss_of_rows(model: PeftModel, rows: list[dict]) -> torch.Tensor:
    """Summed cross-entropy of the rows, each one alone."""
    total = torch.zeros(())
    for row in rows:
        inputs, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        if model.config.is_encoder_decoder:
            logits = model(input_ids=inputs, labels=labels).logits
        else:
            logits, labels = model(input_ids=inputs).logits[:, :-1], labels[:, 1:]
        total = total + F.cross_entropy(logits[0], labels[0], reduction="sum")
    return total


def with_gradient(model: PeftModel, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The loss, and its gradient in one vector."""
    model.zero_grad()
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss.item(), torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in trained])
