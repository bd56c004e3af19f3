"""What the job promises holds for every family of language models: each is trained, measured, stopped, merged, and used as its card says."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO
from statistics import fmean

import torch
from datasets import load_from_disk
from peft import PeftModel
from safetensors import safe_open
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, BatchEncoding

from job.model.objective import Objective
from job.model.packing import PackingCollator, accept_packed, padding_collator
from tests.zoo.runs import STEPS, STOPPED_AFTER, answers

OUTPUTS = ("base_output", "adapter_output")
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3
COMPARED_ROWS, CARD_ROWS = 6, 3
NO_ATTENTION = r"router|\bgate\b|expert|vision|conv|embed|lm_head"
"""Parts of names of modules that "auto" must not adapt."""


def test_the_loss_falls(run):
    losses = [entry["loss"] for entry in run.read("history.json") if "loss" in entry]
    assert len(losses) == STEPS
    assert fmean(losses[-3:]) < losses[0], losses


def test_a_row_answered_alone_gets_the_answer_that_it_gets_among_others(run):
    code, said = run.job("evaluate", PER_DEVICE_EVAL_BATCH_SIZE=1)
    assert code == 0, said
    alone = answers(run.output / "evaluation.csv")
    assert {name: alone[name] for name in OUTPUTS} == {name: run.answers[name] for name in OUTPUTS}


def test_packed_rows_are_padded_rows_are_plain_transformers(run):
    model, tokenizer = plain_model(run)
    chosen = compared_rows(run)
    plain = gradient_of(model, plain_loss(model, chosen))
    assert_equal(gradient_of(model, Objective(model)(model, padding_collator(model, tokenizer)(chosen))), plain, "padded")
    if run.read("plan.json")["padding_free"]:
        accept_packed(model.get_base_model())
        packed = BatchEncoding(PackingCollator(model)(chosen))
        assert_equal(gradient_of(model, Objective(model)(model, packed)), plain, "packed")
    else:
        assert "PADDING_FREE" in run.said


def test_a_fresh_process_answers_as_the_evaluation_did(run):
    proof = run.read("proof.json")
    assert proof["found"]["same_outputs"] == proof["found"]["rows"] == 8
    assert proof["found"]["largest_loss_difference"] < LOSS_TOLERANCE


def test_the_merged_model_answers_as_the_adapter_does(run):
    code, said = run.job("merge")
    assert code == 0, said
    for difference in json.loads((run.output / "merged" / "merge.json").read_text()).values():
        assert difference["same_outputs"] == difference["rows"] == 8
        assert difference["largest_loss_difference"] < 1e-3


def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(run):
    code, said = run.job("train", stop_after=STOPPED_AFTER, RUN_NAME="stopped")
    assert code == 143, said
    code, said = run.job("train", RUN_NAME="stopped")
    assert code == 0, said
    weights = "adapter/adapter_model.safetensors"
    assert (run.output.with_name("stopped") / weights).read_bytes() == (run.output / weights).read_bytes()


def test_the_program_on_the_model_card_prints_the_answer_of_the_job(run):
    program = re.search(r"```python\n(.*?)```", (run.output / "adapter" / "README.md").read_text(), re.DOTALL)[1]
    program = program.replace("path/to/this/folder", str(run.output / "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(run.output / "adapter")
    for question, expected in list(zip(run.answers["input"], run.answers["adapter_output"], strict=True))[:CARD_ROWS]:
        printed = StringIO()
        with redirect_stdout(printed):
            exec(program.replace("{input}", question), {})
        found = printed.getvalue().strip()
        if not run.seq2seq:
            found = found.removeprefix(
                tokenizer.decode(tokenizer(f"Input: {question}\n").input_ids, skip_special_tokens=True).strip()
            )
        assert found.strip() == expected


def test_attention_is_adapted_and_nothing_that_routes_or_sees(run):
    with safe_open(run.output / "adapter" / "adapter_model.safetensors", "pt") as file:
        adapted = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in file.keys()}  # noqa: SIM118
    assert not [name for name in adapted if re.search(NO_ATTENTION, name)]


def plain_model(run):
    """The published adapter on its base, as transformers and PEFT load them, in float32, and its tokenizer."""
    auto = AutoModelForSeq2SeqLM if run.seq2seq else AutoModelForCausalLM
    model = PeftModel.from_pretrained(auto.from_pretrained(run.folder / "base"), run.output / "adapter", is_trainable=True)
    return model.eval(), AutoTokenizer.from_pretrained(run.output / "adapter")


def compared_rows(run) -> list[dict]:
    """Prepared rows of different lengths, the longest among them."""
    data = load_from_disk(run.output / "data" / "train")
    chosen = sorted(data, key=lambda row: row["length"])[:: len(data) // COMPARED_ROWS] + [max(data, key=lambda row: row["length"])]
    return [{name: row[name] for name in ("input_ids", "labels")} for row in chosen]


def plain_loss(model, chosen: list[dict]) -> torch.Tensor:
    """Summed cross-entropy of the rows, each one alone, with nothing of the job."""
    total = torch.zeros(())
    for row in chosen:
        inputs, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        if model.config.is_encoder_decoder:
            logits = model(input_ids=inputs, labels=labels).logits
        else:
            logits, labels = model(input_ids=inputs).logits[:, :-1], labels[:, 1:]
        total = total + F.cross_entropy(logits[0], labels[0], reduction="sum")
    return total


def gradient_of(model, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The loss, and its gradient in one vector."""
    model.zero_grad()
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss.item(), torch.cat([(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in trained])


def assert_equal(found: tuple[float, torch.Tensor], expected: tuple[float, torch.Tensor], name: str) -> None:
    assert abs(found[0] / expected[0] - 1) < LOSS_TOLERANCE, f"{name}: loss {found[0]} instead of {expected[0]}"
    turned = (found[1] - expected[1]).norm() / expected[1].norm()
    assert turned < GRADIENT_TOLERANCE, f"{name}: gradient off by {turned}"
