"""What the job promises holds for every family: each is trained, measured, stopped, merged, and used as its card says."""

import json
import re
from statistics import fmean

import pytest
import torch
from transformers import AutoTokenizer
from transformers.pytorch_utils import Conv1D

from job.model.objective import Objective
from job.model.packed_attention import accept_packed
from job.model.packing import PackingCollator, padding_collator
from tests.zoo.exceptions import CANNOT
from tests.zoo.plain import adapted_model, compared_rows, generated, load, loss_of_rows, printed_by_card, questions, with_gradient
from tests.zoo.runs import STOPPED_AFTER, Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:Recommended. pip install sacremoses",  # of Marian's tokenizer
    "ignore:Version v4.12.0 introduces a better way:FutureWarning",  # of encoder-decoders that were made of two encoders
)

WEIGHTS = "adapter/adapter_model.safetensors"
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Of losses and gradients, relative: a row that sees another, or its own padding, is off by more than a hundred times that."""
NEVER_ADAPTED = r"router|\bgate\b|expert|vision|embed|lm_head"
"""Parts of names of modules that "auto" leaves alone."""


def test_the_loss_of_the_held_out_rows_falls(run):
    before, after = (fmean(map(float, run.answers[f"{side}_loss"])) for side in ("base", "adapter"))
    assert after < 0.98 * before


def test_a_row_answered_alone_gets_the_answer_that_it_gets_among_others(run):
    assert predicted(run, "alone.jsonl", PER_DEVICE_EVAL_BATCH_SIZE=1) == run.answers["adapter_output"]


def test_packed_rows_are_padded_rows_are_plain_transformers(run):
    model, rows = adapted_model(run), compared_rows(run)
    expected = with_gradient(model, loss_of_rows(model, rows))
    padded = padding_collator(model, AutoTokenizer.from_pretrained(run.output / "adapter"))(rows)
    assert_equal(with_gradient(model, Objective(model)(model, padded)), expected, TOLERANCE[model.dtype])
    if run.read("plan.json")["padding_free"]:
        accept_packed(model.get_base_model())
        packed = PackingCollator(model)(rows)
        assert_equal(with_gradient(model, Objective(model)(model, packed)), expected, TOLERANCE[model.dtype])
    else:
        assert run.why_padded()


def test_a_fresh_process_answers_as_the_evaluation_did(run):
    found = run.read("proof.json")["found"]
    assert found["same_outputs"] == found["rows"] == 8
    assert found["largest_loss_difference"] < 1e-4


def test_new_rows_get_the_answers_that_the_evaluation_found(run):
    assert predicted(run, "among.jsonl") == run.answers["adapter_output"]


def test_the_merged_model_answers_as_the_adapter_does(run):
    code, said = run.job("merge")
    if refused := CANNOT.get(run.family, {}).get("merge"):
        assert code == 73, said
        assert refused in said
        return
    assert code == 0, said
    compared = run.read("merged/merge.json")
    assert compared.pop("sealed") is True
    assert len(compared) == 2
    for difference in compared.values():
        assert difference["same_outputs"] == difference["rows"] == 8
        assert difference["largest_loss_difference"] < 1e-3
    for question, expected in questions(run):
        assert generated(run, "output/finished/merged", question) == expected


def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(run):
    code, said = run.job("train", stop_after=STOPPED_AFTER, RUN_NAME="stopped")
    assert code == 143, said
    code, said = run.job("train", RUN_NAME="stopped")
    assert code == 0, said
    assert (run.output.with_name("stopped") / WEIGHTS).read_bytes() == (run.output / WEIGHTS).read_bytes()


def test_the_program_on_the_model_card_prints_the_answer_of_the_job(run):
    for question, expected in questions(run):
        assert printed_by_card(run, question) == expected


def test_all_attention_is_adapted_and_nothing_that_routes_or_sees(run):
    adapted, modules = run.adapted(), dict(load(run, "base").named_modules())
    assert all(isinstance(modules[name], torch.nn.Linear | Conv1D) for name in adapted)
    assert not [name for name in adapted if re.search(NEVER_ADAPTED, name)]
    for name, module in modules.items():
        if "Attention" in type(module).__name__ and "vision" not in name and list(module.parameters()):
            assert [one for one in adapted if one.startswith(f"{name}.")], f"{name} is not adapted"


def predicted(run: Run, into: str, **variables: object) -> list[str]:
    """What `predict` answers to the held-out inputs, in a file of that name."""
    (run.folder / "new.jsonl").write_text("".join(json.dumps({"input": text}) + "\n" for text in run.answers["input"]))
    code, said = run.job("predict", "new.jsonl", into, **variables)
    assert code == 0, said
    with (run.folder / into).open() as file:
        return [json.loads(line)["output"] for line in file]


def assert_equal(found: tuple[float, torch.Tensor], expected: tuple[float, torch.Tensor], tolerance: float) -> None:
    """Losses and gradients are the same but for `tolerance`, relative."""
    assert abs(found[0] / expected[0] - 1) < tolerance, f"loss {found[0]} instead of {expected[0]}"
    turned = ((found[1] - expected[1]).norm() / expected[1].norm()).item()
    assert turned < 10 * tolerance, f"the gradient is off by {turned}"
