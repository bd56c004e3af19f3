"""Runs side by side: what differs, scores with intervals, and the difference on the same rows."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from job.commands.compare import compare_runs

PLAN = {
    "model_id": "demo", "precision": "fp32", "quantization": "none", "micro_batch": 8, "checkpointed_blocks": 0,
    "seconds": {"training": 75.2},
}  # fmt: skip
TRUTHS = [f"answer {number}" for number in range(60)]


def leave_run(folder: Path, name: str, scores: list[float], truths=TRUTHS, **settings) -> None:
    """What a run leaves that `compare` reads."""
    run = folder / name
    run.mkdir(parents=True)
    (run / "settings.json").write_text(json.dumps({"model_id": "demo", "lora_r": 16, "metrics": ["exact_match"]} | settings))
    (run / "plan.json").write_text(json.dumps(PLAN))
    with (run / "evaluation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "ground_truth", "base_output", "adapter_output", "base_exact_match", "adapter_exact_match"])
        writer.writerows(("q", truth, "b", "a", 0.0, score) for truth, score in zip(truths, scores, strict=True))


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    first = generator.binomial(1, 0.5, 60).astype(float)
    return first, np.where(generator.random(60) < 0.2, 1.0, first)


def test_settings_that_differ_and_no_others(tmp_path, scores):
    leave_run(tmp_path, "a", scores[0], content={"the training data": "abc"})
    leave_run(tmp_path, "b", scores[1], lora_r=32, content={"the training data": "abc"})
    text = compare_runs(tmp_path, ["a", "b"])
    assert "LORA_R  16  32" in text
    assert "MODEL_ID" not in text
    assert "the training data" not in text


def test_of_long_values_that_is_shown_in_which_they_differ(tmp_path, scores):
    same = "Summarise the following dialogue in one sentence, naming who does what: {input} "
    leave_run(tmp_path, "a", scores[0], prompt_template=same + "short")
    leave_run(tmp_path, "b", scores[1], prompt_template=same + "long\nand detailed")
    text = compare_runs(tmp_path, ["a", "b"])
    assert "{input} short" in text
    assert "{input} long⏎and detailed" in text


def test_scores_and_differences_have_the_intervals_of_scipy(tmp_path, scores):
    first, second = scores
    leave_run(tmp_path, "a", first)
    leave_run(tmp_path, "b", second)
    text = compare_runs(tmp_path, ["a", "b"])
    mean = next(line for line in text.splitlines() if line.startswith("exact match"))
    assert f"{100 * first.mean():.1f} % (" in mean
    difference = [line for line in text.splitlines() if line.startswith("exact match")][1]
    reference = stats.bootstrap((second - first,), np.mean, n_resamples=50_000, method="percentile", rng=1).confidence_interval
    found = [float(part) for part in difference.replace("(", " ").replace(")", " ").split() if part[0] in "+-"]
    assert found[0] == pytest.approx(100 * (second - first).mean(), abs=0.06)
    assert found[1:] == pytest.approx([100 * reference.low, 100 * reference.high], abs=1.7)  # one row of 60
    assert "training took  0:01:15" in text


def test_runs_on_other_rows_have_no_difference_row_by_row(tmp_path, scores):
    leave_run(tmp_path, "a", scores[0])
    leave_run(tmp_path, "b", scores[1], truths=TRUTHS[::-1])
    assert "Difference" not in compare_runs(tmp_path, ["a", "b"])


def test_the_page_says_the_same_and_texts_are_no_markup(tmp_path, scores):
    leave_run(tmp_path, "a", scores[0])
    leave_run(tmp_path, "b", scores[1], prompt_template="<b>{input}</b>")
    compare_runs(tmp_path, ["a", "b"])
    page = (tmp_path / "compare.html").read_text()
    assert "&lt;b&gt;{input}&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "Scores of the adapters, with 95 % intervals" in page


def test_a_run_that_is_not_there_is_named_with_those_that_are(run_job, scores):
    leave_run(Path("output"), "first", scores[0])
    leave_run(Path("output"), "second", scores[1])
    code, said = run_job("compare", "first", "third")
    assert code == 66
    assert "OUTPUT_DIR=output has first, second. Name one of these." in said
    assert run_job("compare", "first")[0] == 78
    assert run_job("compare", "first", "second")[0] == 0
