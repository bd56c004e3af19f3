"""What is checked between loading the model and the first step."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from job.errors import DiskFull
from job.model.packing import accepts_packed
from job.model.patches import attention_implementation
from job.pipeline import checks as module
from job.pipeline.checks import check_before_training, check_disk, check_generation, choose_padding_free
from job.preflight.memory import longest_row
from job.system import durable
from job.system.ranks import Ranks


def leave_free(monkeypatch, free: int) -> None:
    monkeypatch.setattr(durable.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def test_the_disk_must_hold_three_checkpoints_and_six_adapters(context, monkeypatch):
    """A million trained parameters: 3 x 12 MB of weights and moments, 6 x 4 MB of adapters, 64 MiB beside them."""
    needed = 3 * 12_000_000 + 6 * 4_000_000 + 64 * 2**20
    leave_free(monkeypatch, needed)
    check_disk(context, 1_000_000)
    leave_free(monkeypatch, needed - 1)
    with pytest.raises(DiskFull, match=r"0\.12 GiB free at output/r, this run will write about 0\.12"):
        check_disk(context, 1_000_000)


def test_a_full_disk_is_told_before_the_precision_is_tried(context, alone, monkeypatch):
    monkeypatch.setattr(module, "check_precision", lambda *_: pytest.fail("it was tried"))
    leave_free(monkeypatch, 0)
    with pytest.raises(DiskFull):
        check_before_training(replace(context, plan=replace(context.plan, precision="fp16")), alone)


def test_what_is_trained_is_counted_and_a_cpu_is_told(context, model, alone, caplog, monkeypatch):
    """q and v of two blocks' encoder, decoder and cross-attention: 12 layers of 32 x 32 at rank 16."""
    caplog.set_level(logging.INFO)
    asked = []
    monkeypatch.setattr(module, "estimate_training_s", lambda *numbers: asked.append(numbers) or 3723.0)
    check_before_training(context, alone)
    trainable, total = 12 * 16 * (32 + 32), sum(parameter.numel() for parameter in model.parameters())
    assert f"trainable: {trainable:,} of {total:,} parameters ({100 * trainable / total:.2f} %)" in caplog.text
    assert "NO GPU: training on the CPU, which may take about 1:02:03" in caplog.text
    tokens = sum(len(row["input_ids"]) + len(row["labels"]) for row in context.prepared.train)
    assert asked == [(total, round(tokens * 4 * 8 / 32))], "four steps of eight rows of 32"


def test_epochs_count_where_no_steps_were_set(context, alone, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "estimate_training_s", lambda *numbers: asked.append(numbers[1]) or 1.0)
    settings = context.settings.model_copy(update={"max_steps": None, "num_train_epochs": 2.5})
    check_before_training(replace(context, settings=settings), alone)
    assert asked == [round(2.5 * sum(context.prepared.train["length"][:]))]


@pytest.mark.parametrize(("precision", "is_tried"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_the_type_is_tried_on_the_longest_row_where_it_is_narrow(context, model, alone, monkeypatch, precision, is_tried):
    tried = []
    monkeypatch.setattr(module, "check_precision", lambda alone: tried.append(alone.rows[0]))
    check_before_training(replace(context, plan=replace(context.plan, precision=precision)), alone)
    assert tried == [longest_row(model, context.prepared.train)] * is_tried


def test_a_sound_model_is_trained_on_packed_rows_and_accepts_them(context, model, alone, caplog):
    caplog.set_level("INFO")
    assert choose_padding_free(context, alone) is True
    assert accepts_packed(model)
    assert "padded" not in caplog.text


def test_where_a_person_wants_padding_nothing_is_tried_and_a_line_says_so(context, model, alone, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "why_padded", lambda *_: pytest.fail("it was tried"))
    asked = replace(context, settings=context.settings.model_copy(update={"padding_free": "false"}))
    assert choose_padding_free(asked, alone) is False
    assert not accepts_packed(model)
    assert caplog.messages == ["rows of t5 are padded, not packed: PADDING_FREE=false"]


def test_a_run_that_began_with_padding_goes_on_with_it(context, alone, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "why_padded", lambda *_: pytest.fail("it was tried"))
    assert choose_padding_free(replace(context, plan=replace(context.plan, padding_free=False)), alone) is False
    assert caplog.messages == ["rows of t5 are padded, not packed: as when this run began"]


@pytest.mark.parametrize(("found", "reason"), [("it has sinks", "it has sinks"), (None, "that is faster here")])
@pytest.mark.parametrize("asked", ["auto", "true"])
def test_where_packing_is_wrong_or_slower_the_model_is_as_it_was_and_a_line_says_why(
    context, model, alone, monkeypatch, caplog, found, reason, asked
):
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "why_padded", lambda *_: found)
    monkeypatch.setattr(module, "packing_is_faster", lambda *_: False)
    settings = context.settings.model_copy(update={"padding_free": asked})
    on_gpu = replace(context, settings=settings, hardware=replace(context.hardware, device="cuda"))
    if found is None and asked == "true":
        assert choose_padding_free(on_gpu, alone) is True
        return
    before = attention_implementation(model)
    assert choose_padding_free(on_gpu, alone) is False
    assert attention_implementation(model) == before == "sdpa"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING" if asked == "true" else "INFO", f"rows of t5 are padded, not packed: {reason}")
    ]


@pytest.mark.parametrize(
    ("device", "asked", "begun", "timed"),
    [
        ("cuda", {}, False, True),
        ("cpu", {}, False, False),
        ("cuda", {"padding_free": "true"}, False, False),
        ("cuda", {"full_determinism": True}, False, False),
        ("cuda", {}, True, False),
    ],
)
def test_time_decides_on_a_gpu_alone_and_only_where_the_choice_is_open(context, alone, monkeypatch, device, asked, begun, timed):
    """What a clock decides may be another thing after an interruption."""
    calls = []
    monkeypatch.setattr(module, "why_padded", lambda *_: None)
    monkeypatch.setattr(module, "packing_is_faster", lambda *arguments: calls.append(arguments[3]) or False)
    if begun:
        context.folder.checkpoints.mkdir()
    settings = context.settings.model_copy(update=asked)
    changed = replace(context, settings=settings, hardware=replace(context.hardware, device=device))
    assert choose_padding_free(changed, alone) is not timed
    assert calls == ([8] if timed else [])


@pytest.mark.parametrize(("begun", "found", "heard"), [(True, True, 2), (False, False, 3), (False, True, 3)])
def test_a_rank_that_does_not_see_the_folder_takes_the_branch_of_rank_0(context, alone, monkeypatch, begun, found, heard):
    """Else it waits for a message that rank 0 never sends, or leaves one that it does: it hears why rows are padded, then that
    the run is begun, then, of a new one alone, what is faster."""
    said, asked = [None, begun, found], []

    class Second(Ranks):
        def broadcast(self, value):
            asked.append(value)
            return said[len(asked) - 1]

    monkeypatch.setattr(module, "why_padded", lambda *_: pytest.fail("rank 0 alone does that"))
    monkeypatch.setattr(module, "packing_is_faster", lambda *_: pytest.fail("rank 0 alone does that"))
    second = replace(context, ranks=Second(1, 2, 0), hardware=replace(context.hardware, device="cuda"))
    assert choose_padding_free(second, alone) is found
    assert asked == [None, False, None][:heard], "of its own it says that its folder is not begun"


def test_of_a_sharded_base_a_line_says_that_neither_precision_nor_padding_is_checked(context, alone, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "is_sharded", lambda _: True)
    for name in ("check_precision", "check_padding"):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it was checked"))
    check_before_training(replace(context, plan=replace(context.plan, precision="bf16")), alone)
    assert "the base is sharded over 1 processes: neither precision nor padding is checked" in caplog.messages


@pytest.mark.parametrize(
    ("batch_size", "most", "rows", "factor"), [(4, 1000, 4, 2), (32, 1000, 8, 1), (2, 5, 2, 2.5), (32, 3, 3, 1)]
)
def test_a_full_batch_of_the_longest_input_is_answered_and_its_time_told_for_all(
    context, model, monkeypatch, batch_size, most, rows, factor
):
    """Eight held-out rows; the clock shows 3 s for one batch."""
    asked, moments = [], [10.0, 13.0]
    monkeypatch.setattr(module, "generate", lambda model, tokenizer, prompts, decoding: asked.append(prompts))
    monkeypatch.setattr(module.time, "perf_counter", lambda: moments.pop(0))
    settings = context.settings.model_copy(update={"eval_max_rows": most})
    scoring = replace(context.scoring, decoding=replace(context.scoring.decoding, batch_size=batch_size))
    found = check_generation(replace(context, settings=settings, scoring=scoring), model)
    longest = max(context.prepared.evaluation["input_ids"][:most], key=len)
    assert asked == [[longest] * rows]
    assert found == pytest.approx(3 * factor)


def test_answering_leaves_the_random_numbers_as_they_were(context, model):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert check_generation(context, model) > 0
    assert torch.equal(torch.rand(4), expected)
