"""The proof: a fresh process that knows nothing of the job answers as evaluation.csv says, and what is not so is found out."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from job.publish import verification
from job.publish.verification import Answers, answer_in_fresh_process, compare_answers, with_answers
from job.system.seal import seal

FEW = {"MAX_STEPS": 4, "MAX_NEW_TOKENS": 6, "EVAL_STRATEGY": "no", "RUN_NAME": "r", "METRICS": "exact_match"}


def test_answers_and_losses_are_compared():
    found = compare_answers(Answers(["a", "b", "c"], [0.5, 4.0, 1.0]), Answers(["a", "x", "c"], [0.5, 5.0, 1.1]), tolerance=0.3)
    assert (found.rows, found.same_outputs, found.near_ties, found.other_answers) == (3, 2, 0, 1)
    assert found.largest_loss_difference == pytest.approx(0.2)  # 1 of 5
    assert str(found) == '2 of 3 answers the same, 1 differ: expected "x", found "b", losses within 2.0e-01'
    assert compare_answers(Answers(["a"], [0.5]), Answers(["a"], [0.9]), tolerance=0.3).is_too_large


def answered(texts: str, *gaps: dict[str, float]) -> Answers:
    """One letter is one answer; all losses are 1."""
    return Answers(list(texts), [1.0] * len(texts), gaps=list(gaps) or None)


def test_one_answer_that_differs_is_too_many_however_equal_the_losses_are():
    found = compare_answers(answered("xbcdefgh"), answered("abcdefgh"), 0.05)
    assert found.is_too_large
    assert (found.other_answers, found.example) == (1, ("a", "x"))


@pytest.mark.parametrize(("precision", "gap", "is_too_large"), [
    ("fp32", 0.0009, False), ("fp32", 0.0011, True), ("fp16", 0.019, False), ("fp16", 0.021, True), ("bf16", 0.049, False),
    ("bf16", 0.051, True), ("bf16", math.inf, True),
])  # fmt: skip
def test_an_answer_may_be_another_where_rounding_decides(precision, gap, is_too_large):
    found = compare_answers(answered("xb", {"a": gap}, {}), answered("ab"), verification.TOLERANCE[precision])
    assert found.is_too_large is is_too_large
    assert found.near_ties == (0 if is_too_large else 1)
    if not is_too_large:
        assert str(found) == "1 of 2 answers the same, 1 a near tie of two tokens, losses within 0.0e+00"


def test_a_near_tie_with_another_answer_than_the_expected_one_explains_nothing():
    assert compare_answers(answered("x", {"b": 0.0}), answered("a"), 0.05).is_too_large


@pytest.mark.parametrize("tolerance", [1e-3, 0.5])
def test_where_answers_are_only_told_losses_alone_decide(tolerance):
    expected = answered("abcdefgh")
    found = compare_answers(answered("stuvwxyz"), expected, tolerance, answers_decide=False)
    assert (found.is_too_large, found.other_answers, found.losses_differ) == (False, 8, False)
    further = replace(expected, losses=[loss + 2 * tolerance for loss in expected.losses])
    assert compare_answers(further, expected, tolerance, answers_decide=False).is_too_large


def test_answers_decide_however_wide_the_tolerance_of_losses_is():
    found = compare_answers(answered("x"), answered("a"), verification.QUANTISED_TOLERANCE)
    assert (found.is_too_large, found.losses_differ, found.answers) == (
        True,
        False,
        '0 of 1 answers the same, 1 differ: expected "a", found "x"',
    )


def test_a_long_answer_is_shown_by_its_beginning_in_one_line():
    told = str(compare_answers(Answers(["one\ntwo " * 20], [1.0]), Answers(["a"], [1.0]), 0.05))
    assert f'found "{("one two " * 20)[:60]} ...", losses' in told


def test_rows_of_a_task_name_what_each_side_answered():
    one, other = Answers(["a", "b"], [1, 1], [[5], [6]]), Answers(["a", "c"], [1, 1], [[5], [7, 8]])
    without_ids = Answers(["d", "e"], [1, 1])
    rows = with_answers([{"prompt": [1]}, {"prompt": [2]}], one, other, without_ids)
    assert rows == [{"prompt": [1], "answers": {"a": [5]}}, {"prompt": [2], "answers": {"b": [6], "c": [7, 8]}}]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_too_far(loss):
    assert compare_answers(Answers(["a"], [loss]), Answers(["a"], [1.0]), tolerance=0.3).is_too_large


def test_losses_of_the_base_model_are_not_the_adapters_however_wide_the_tolerance():
    base, adapter = [1.5, 1.4], [1.1, 1.2]
    lost = compare_answers(Answers(["a", "b"], [1.45, 1.4]), Answers(["a", "b"], adapter), 0.5, base)
    assert lost.is_too_large
    assert "which are the base model's" in str(lost)
    assert not compare_answers(Answers(["a", "b"], [1.2, 1.25]), Answers(["a", "b"], adapter), 0.5, base).is_too_large
    assert not compare_answers(Answers(["a"], [1.15]), Answers(["a"], [1.0]), 0.5, [1.2]).is_too_large, (
        "quantisation may decide that"
    )
    assert not compare_answers(Answers(["a"], [1.0001]), Answers(["a"], [1.0]), 0.5, [1.0002]).is_too_large, (
        "an adapter that did nothing"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_a_real_fresh_process_answers_as_recorded(kind, request, run_job, write_rows, questions, fresh_process):
    processes, script = [], verification.run_script
    fresh_process["run"] = lambda task: processes.append(script(task)) or processes[-1]
    variables = {"MODEL_ID": request.getfixturevalue(kind), "TRAIN_DATA": write_rows(questions)} | FEW
    code, said = run_job(**variables)
    assert code == 0, said
    assert processes[0].args[1].endswith("reload.py")
    proof = json.loads(Path("output/r/proof.json").read_text())["found"]
    assert (proof["rows"], proof["same_outputs"]) == (8, 8)
    assert 0 <= proof["largest_loss_difference"] < 1e-4
    assert "loaded again by a fresh process, peft and transformers alone: 8 of 8 answers the same" in said
    line = "8 of 8 answers the same"
    assert line in Path("output/r/adapter/README.md").read_text()
    assert line in Path("output/r/report.html").read_text()
    assert line in json.loads(Path("output/r/status.json").read_text())["proof"]


def test_an_adapter_that_does_not_answer_as_it_was_evaluated_is_found_out(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "LEARNING_RATE": 0.1} | FEW
    assert run_job(**variables)[0] == 0
    path = Path("output/r/adapter/adapter_model.safetensors")
    save_file({name: -2 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    seal(path.parent)  # else the manifest tells, and nobody asks it
    proof = Path("output/r/proof.json")
    proof.write_text(json.dumps({"expected": json.loads(proof.read_text())["expected"]}))
    Path("output/r/status.json").unlink()
    code, said = run_job(**variables)
    assert code == 73
    assert "loaded by a fresh process it does not answer as evaluation.csv says" in said
    assert "run `evaluate`" in said
    assert json.loads(Path("output/r/status.json").read_text())["state"] == "failed"


@pytest.mark.slow
def test_a_fresh_process_that_fails_is_told_with_its_last_line(tmp_path):
    with pytest.raises(verification.VerificationFailed, match=r"alone cannot use it: .*nowhere"):
        answer_in_fresh_process({"seq2seq": True, "dtype": "float32", "device": "cpu", "arguments": {"local_files_only": True},
                                 "quantization": None, "model": str(tmp_path / "nowhere"), "adapter": None})  # fmt: skip


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "Traceback\ntorch.OutOfMemoryError: CUDA out of memory."),
        (1, "RuntimeError: DefaultCPUAllocator: not enough memory: you tried"),
    ],
    ids=["GPU", "allocator"],
)
def test_no_room_for_a_second_model_is_no_failure_and_is_told(code, said, run_job, t5_folder, write_rows, questions, fresh_process):
    fresh_process["run"] = lambda task: verification.subprocess.CompletedProcess([], code, "", said)
    exit_code, log = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), **FEW)
    assert exit_code == 0, log
    assert "not loaded again in a fresh process: no room in memory" in log
    assert "not done, no room in memory" in Path("output/r/report.html").read_text()
    assert "not done, no room in memory" in json.loads(Path("output/r/status.json").read_text())["proof"]


def ended(code: int, out: str = "", said: str = ""):
    return lambda task: verification.subprocess.CompletedProcess([], code, out, said)


TRACEBACK = 'Traceback (most recent call last):\n  File "reload.py", line 1\n    load()\n    ^^^^^^\n'
TASK = {"adapter": "output/r/adapter", "model": "m"}


def test_the_last_line_of_the_fresh_process_is_what_it_found(monkeypatch):
    """Libraries print what they like before it."""
    monkeypatch.setattr(verification, "run_script", ended(0, 'loading\n{"outputs": ["a"], "losses": [0.5]}\n'))
    assert answer_in_fresh_process(TASK) == Answers(["a"], [0.5])


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (1, f"{TRACEBACK}ValueError: bad\n", "ValueError: bad"),
        (1, f"{TRACEBACK}OSError: x\n\nDuring handling, another:\n\n{TRACEBACK}KeyError: 'a'\nand on\n", "KeyError: 'a'"),
        (2, "reload.py: no such file\n", "reload.py: no such file"),
        (3, "  \n", "exit code 3"),
    ],
)
def test_a_fresh_process_that_says_nothing_is_told_with_its_exit_code(monkeypatch, code, said, reason):
    monkeypatch.setattr(verification, "run_script", ended(code, said=said))
    with pytest.raises(verification.VerificationFailed) as raised:
        answer_in_fresh_process(TASK)
    assert str(raised.value) == (
        f"output/r/adapter: a fresh process with peft and transformers alone cannot use it: {reason}. Report it, with the log."
    )


def test_a_gpu_without_room_for_the_fresh_process_is_told_in_the_first_of_cudas_lines(monkeypatch):
    said = f"{TRACEBACK}torch.AcceleratorError: CUDA error: out of memory\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    monkeypatch.setattr(verification, "run_script", ended(1, said=said))
    assert answer_in_fresh_process(TASK) is None


@pytest.mark.parametrize(("by", "exit_code", "told"), [
    (9, 72, "ended by SIGKILL, as a machine does that runs out of memory. Free some and run the same command again"),
    (15, 73, "ended by SIGTERM. Find out what sent it"),
    (11, 73, "ended by SIGSEGV. Find out what sent it"),
])  # fmt: skip
def test_a_run_whose_proof_was_killed_is_not_done_and_the_same_command_completes_it(
    finished_run, run_job, fresh_process, by, exit_code, told
):
    variables, folder = finished_run
    for name in ("status.json", "proof.json"):
        (folder / name).unlink()
    usual = fresh_process["run"]
    fresh_process["run"] = ended(-by)
    code, said = run_job(**variables)
    assert (code, told in said) == (exit_code, True), said
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["stage"], status["exit_code"]) == ("failed", "verify", exit_code)
    fresh_process["run"] = usual
    assert run_job(**variables)[0] == 0
    assert json.loads((folder / "proof.json").read_text())["found"]["same_outputs"] == 8


@pytest.mark.parametrize(("found", "is_too_large"), [(0.5 + 0.0009, False), (0.5 + 0.0011, True), (0.5 - 0.0011, True)])
def test_below_1_a_loss_may_differ_by_the_tolerance_itself(found, is_too_large):
    assert compare_answers(Answers(["a"], [found]), Answers(["a"], [0.5]), 1e-3).is_too_large is is_too_large


def test_the_widest_difference_decides():
    found = compare_answers(Answers(["a"] * 3, [1.0, 4.0, 1.0]), Answers(["a"] * 3, [1.0, 2.0, 1.1]), 0.5)
    assert found.largest_loss_difference == 1.0


def test_answers_of_different_rows_are_a_bug():
    with pytest.raises(ValueError, match="zip"):
        compare_answers(Answers(["a"], [1.0]), Answers(["a", "b"], [1.0, 1.0]), 0.5)
