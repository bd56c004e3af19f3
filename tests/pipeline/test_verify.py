"""The proof: what is expected, what a fresh process found, and what is said where both are not the same."""

import json
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from transformers import BitsAndBytesConfig, GPT2Config, T5ForConditionalGeneration

from job.errors import VerificationFailed
from job.model.load import BaseModel
from job.model.lora import load_adapter
from job.pipeline import verify as module
from job.pipeline.prepare import load_base_model
from job.pipeline.records import PlanRecord, ProofRecord, StatusRecord
from job.pipeline.verify import ROWS, expected_answers, reload_rows, reload_task, verify
from job.publish.verification import Answers, Difference


@pytest.fixture
def unproven(finished_context):
    """The context of a run that is evaluated and not yet verified."""
    proof = ProofRecord.read(finished_context.folder.proof)
    replace(proof, found=None).write(finished_context.folder.proof)
    finished_context.folder.status.unlink()
    return finished_context


@pytest.fixture
def fresh(monkeypatch, unproven):
    """Puts what a fresh process finds: a function of the expected answers; returns the tasks that it was given."""

    def arrange(find) -> list[dict]:
        tasks = []
        expected = ProofRecord.read(unproven.folder.proof).expected.answers
        monkeypatch.setattr(module, "free_memory", lambda: None)  # there is no process that needs it
        monkeypatch.setattr(module, "answer_in_fresh_process", lambda task: tasks.append(task) or find(expected))
        return tasks

    return arrange


def test_the_same_answers_complete_the_proof(unproven, fresh):
    tasks = fresh(lambda expected: expected)
    verify(unproven)
    proof = ProofRecord.read(unproven.folder.proof)
    assert proof.found == Difference(rows=8, same_outputs=8, largest_loss_difference=0, tolerance=1e-3)
    assert "proof" in PlanRecord.read(unproven.folder.plan).seconds
    assert StatusRecord.read(unproven.folder.status).stage == "verify"
    verify(unproven)
    assert len(tasks) == 1, "what is proven is not proven again"


@pytest.mark.parametrize("off", [0.002, float("nan"), -1.0])
def test_losses_that_differ_are_73_and_the_proof_stays_open(unproven, fresh, off):
    """0.001 is allowed in float32, relative to losses of about 6."""
    fresh(lambda expected: Answers(expected.outputs, [loss * (1 + off) for loss in expected.losses]))
    with pytest.raises(
        VerificationFailed, match=r"does not answer as evaluation.csv says \(8 of 8 .*; 0.001 is allowed\)"
    ) as raised:
        verify(unproven)
    assert raised.value.exit_code == 73
    assert "run `evaluate`" in str(raised.value)
    assert not ProofRecord.read(unproven.folder.proof).is_complete


def test_an_answer_that_differs_is_73_and_shown_however_equal_the_losses_are(unproven, fresh):
    fresh(lambda expected: Answers(["other", *expected.outputs[1:]], expected.losses))
    right = ProofRecord.read(unproven.folder.proof).expected.outputs[0]
    with pytest.raises(VerificationFailed, match="7 of 8 answers the same, 1 differ: expected") as raised:
        verify(unproven)
    assert f'expected "{right}", found "other". The losses agree' in str(raised.value)
    assert "Set PER_DEVICE_EVAL_BATCH_SIZE=1 and run `evaluate`" in str(raised.value)
    assert "allowed" not in str(raised.value), "the losses, of which that is said, are as they should be"
    assert not ProofRecord.read(unproven.folder.proof).is_complete


def test_an_answer_may_differ_where_two_tokens_were_as_likely(unproven, fresh):
    def find(expected):
        gaps = [{expected.outputs[0]: 0.0005}, *[{}] * 7]
        return Answers(["other", *expected.outputs[1:]], expected.losses, gaps=gaps)

    fresh(find)
    verify(unproven)
    found = ProofRecord.read(unproven.folder.proof).found
    assert (found.same_outputs, found.near_ties) == (7, 1)


def test_the_fresh_process_is_told_the_expected_answers_as_tokens(unproven, fresh):
    tasks = fresh(lambda expected: expected)
    verify(unproven)
    expected = ProofRecord.read(unproven.folder.proof).expected
    decoded = unproven.tokenizer.batch_decode(expected.ids, skip_special_tokens=True)
    assert [text.strip() for text in decoded] == expected.outputs
    assert [row["answers"] for row in tasks[0]["rows"]] == [
        {text: ids} for text, ids in zip(expected.outputs, expected.ids, strict=True)
    ]


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (1.0, False)])
def test_answers_of_an_earlier_version_which_kept_no_tokens_are_told_and_the_losses_decide(unproven, fresh, shift, passes):
    proof = ProofRecord.read(unproven.folder.proof)
    replace(proof, expected=replace(proof.expected, ids=None)).write(unproven.folder.proof)
    fresh(lambda expected: Answers(["other", *expected.outputs[1:]], [loss + shift for loss in expected.losses]))
    if passes:
        verify(unproven)
        found = ProofRecord.read(unproven.folder.proof).found
        assert (found.same_outputs, found.other_answers, found.answers_decide) == (7, 1, False)
    else:
        with pytest.raises(VerificationFailed, match=r"; 0.001 is allowed\). Check the disk"):
            verify(unproven)


@pytest.mark.parametrize(
    ("family", "quantization", "device", "decide"),
    [
        ("t5", "none", "cuda", True), ("t5", "none", "cpu", True), ("t5", "nf4", "cuda", False), ("llama", "nf4", "cuda", True),
        ("llama", "nf4", "cpu", False), ("llama", "int8", "cuda", False), ("llama", "int8", "cpu", False),
    ],
)  # fmt: skip
def test_answers_decide_where_the_fresh_process_holds_the_base_as_the_evaluation_did(
    unproven, fresh, t5_folder, llama_folder, family, quantization, device, decide
):
    """Plain transformers keeps T5's `wo` out of NF4, and loads unquantised on a CPU here; int8 rounds by the batch."""
    context = replace(
        unproven,
        plan=replace(unproven.plan, quantization=quantization),
        hardware=replace(unproven.hardware, device=device),
        base=BaseModel(str({"t5": t5_folder, "llama": llama_folder}[family])),
        seq2seq=family == "t5",
    )
    fresh(lambda expected: expected)
    verify(context)
    assert ProofRecord.read(context.folder.proof).found.answers_decide is decide


def test_an_adapter_that_was_not_loaded_is_found_out(unproven, fresh):
    proof = ProofRecord.read(unproven.folder.proof)
    apart = replace(proof.expected, base_losses=[loss + 2 for loss in proof.expected.losses])
    replace(proof, expected=apart).write(unproven.folder.proof)
    fresh(lambda expected: Answers(expected.outputs, apart.base_losses))
    with pytest.raises(VerificationFailed, match="which are the base model's"):
        verify(unproven)


def test_a_run_whose_answers_differ_is_not_done_and_may_be_tried_again(finished_run, run_job, fresh_process):
    variables, folder = finished_run
    usual = fresh_process["run"]
    proof = json.loads((folder / "proof.json").read_text())
    del proof["found"]
    (folder / "proof.json").write_text(json.dumps(proof))
    (folder / "status.json").unlink()

    def shifted(task: str):
        ended = usual(task)
        found = json.loads(ended.stdout)
        ended.stdout = json.dumps(found | {"losses": [loss + 1 for loss in found["losses"]]})
        return ended

    fresh_process["run"] = shifted
    code, said = run_job(**variables)
    assert code == 73, said
    told = StatusRecord.read(folder / "status.json")
    assert (told.state, told.stage, told.exit_code, told.retryable) == ("failed", "verify", 73, False)
    fresh_process["run"] = usual
    assert run_job(**variables)[0] == 0
    assert StatusRecord.read(folder / "status.json").state == "done"


def test_without_memory_the_proof_says_that_it_was_skipped(unproven, fresh, caplog):
    fresh(lambda _: None)
    verify(unproven)
    proof = ProofRecord.read(unproven.folder.proof)
    assert (proof.is_complete, proof.found, proof.skipped, str(proof)) == (
        True,
        None,
        "no room in memory",
        "not done, no room in memory",
    )
    assert "the adapter was not loaded again in a fresh process: no room in memory" in caplog.text


@pytest.mark.parametrize(
    ("precision", "quantization", "tolerance"),
    [("fp32", "none", 1e-3), ("fp16", "none", 0.02), ("bf16", "none", 0.05), ("fp32", "nf4", 0.5), ("bf16", "int8", 0.5)],
)
def test_what_is_allowed_follows_from_how_the_base_is_held(unproven, fresh, precision, quantization, tolerance):
    context = replace(unproven, plan=replace(unproven.plan, precision=precision, quantization=quantization))
    fresh(lambda expected: Answers(expected.outputs, [loss * (1 - 0.9 * tolerance) for loss in expected.losses]))
    verify(context)
    assert ProofRecord.read(context.folder.proof).found.tolerance == tolerance


def test_expected_is_what_transformers_alone_computes_of_the_base(unproven, t5_folder):
    """The loss of the untouched model, from its own forward pass with labels, row by row."""
    context = unproven
    model = load_adapter(load_base_model(context), context.folder.adapter)
    expected = expected_answers(context, model, [f"answer {number}" for number in range(20)], [[number] for number in range(20)])
    assert expected.outputs == [f"answer {number}" for number in range(ROWS)]
    assert expected.ids == [[number] for number in range(ROWS)]
    assert (expected.max_new_tokens, expected.num_beams, expected.decoding.batch_size) == (8, 1, 8)
    base = T5ForConditionalGeneration.from_pretrained(t5_folder).eval()
    rows = list(context.prepared.evaluation)
    with torch.no_grad():
        losses = [
            base(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item() for row in rows
        ]
    assert expected.base_losses == pytest.approx(losses, rel=1e-5)
    assert expected.losses != expected.base_losses


def test_fewer_answers_than_rows_of_a_proof_are_all_of_them(unproven):
    model = load_adapter(load_base_model(unproven), unproven.folder.adapter)
    assert len(expected_answers(unproven, model, ["a", "b"], [[5], [6]]).losses) == 2


def test_the_fresh_process_is_told_what_anybody_would_need(unproven, fresh, t5_folder):
    (tasks,) = [fresh(lambda expected: expected)]
    verify(unproven)
    (task,) = tasks
    assert (task["model"], task["adapter"], task["tokenizer"]) == (str(t5_folder), "output/r/adapter", "output/r/adapter")
    assert (task["seq2seq"], task["dtype"], task["device"], task["quantization"]) == (True, "float32", "cpu", None)
    assert (task["num_beams"], {row["max_new_tokens"] for row in task["rows"]}) == (1, {8})
    rows = unproven.prepared.evaluation
    assert [row["labels"] for row in task["rows"]] == rows["labels"][:]
    assert [row["prompt"] for row in task["rows"]] == rows["input_ids"][:]


@pytest.mark.parametrize(
    ("quantization", "device", "asked"),
    [("nf4", "cuda", {"load_in_4bit": True}), ("int8", "cuda", {"load_in_8bit": True}), ("nf4", "cpu", None)],
)
def test_a_quantised_base_is_quantised_on_a_gpu_as_people_do(unproven, fresh, quantization, device, asked):
    plan = replace(unproven.plan, quantization=quantization, precision="fp16")
    tasks = fresh(lambda expected: expected)
    verify(replace(unproven, plan=plan, hardware=replace(unproven.hardware, device=device)))
    found = tasks[0]["quantization"]
    if asked is None:
        assert found is None
    else:
        assert asked.items() <= found.items()
        assert BitsAndBytesConfig(**found).bnb_4bit_compute_dtype in (torch.float16, torch.float32)


@pytest.mark.parametrize(("positions", "room"), [(256, 5), (6, 4), (3, 1)])
def test_a_causal_models_prompt_ends_where_its_answer_begins_and_the_answer_where_the_positions_do(positions, room):
    rows = Dataset.from_dict({"input_ids": [[5, 6, 7, 8]], "labels": [[-100, -100, 7, 8]]})
    (row,) = reload_rows(rows, GPT2Config(n_positions=positions), 5)
    assert row == {"prompt": [5, 6], "input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8], "max_new_tokens": room}


def test_a_task_for_the_base_alone_names_no_adapter(unproven):
    base = BaseModel("me/mine", "v1", "hf_x", True, False)
    decoding = ProofRecord.read(unproven.folder.proof).expected.decoding
    task = reload_task(base, False, "cpu", "bf16", [], decoding)
    assert (task["adapter"], task["tokenizer"], task["dtype"]) == (None, "me/mine", "bfloat16")
    assert task["arguments"]["revision"] == "v1"
