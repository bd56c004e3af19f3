"""What the report says, against the files that it is gathered from."""

import csv
import json
import shlex
from dataclasses import replace

import numpy as np
import pytest

from job import __version__
from job.data.look import Found
from job.evaluation.verdict import MetricComparison, Verdict, read_verdict
from job.pipeline.records import AdapterRecord, PlanRecord, ProofRecord
from job.pipeline.report import data_name, describe_ending, report_facts

HEADER = ["input", "ground_truth", "base_output", "adapter_output", "baseline_output"]


@pytest.fixture
def facts(finished_context):
    """The facts of a finished run, after a change of its context."""

    def gather(**changes) -> dict:
        context = replace(finished_context, **changes)
        return report_facts(context, read_verdict(context.folder.evaluation), ProofRecord.read(context.folder.proof))

    return gather


def write_scores(path, metric: str, pairs: list[tuple[float, float]]) -> None:
    """An evaluation of rows with these scores of base and adapter."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*HEADER, f"base_{metric}", f"adapter_{metric}"])
        for number, (base, adapter) in enumerate(pairs):
            writer.writerow([f"q{number}", f"truth {number}", f"base {number}", f"adapter {number}", "x", base, adapter])


def test_scores_are_the_means_of_the_table(facts, finished_context):
    with finished_context.folder.evaluation.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    shown = {row["name"]: row for row in facts()["scores"]}
    means = {column: np.mean([float(row[column]) for row in rows]) for column in rows[0] if column not in HEADER}
    assert set(shown) == {
        "exact match", "token f1", "rouge1", "rouge2", "rougeL", "rougeLsum", "chrf", "loss, lower is better",
    }  # fmt: skip
    loss, chrf = shown["loss, lower is better"], shown["chrf"]
    assert (loss["base"], loss["adapter"], loss["baseline"]) == (f"{means['base_loss']:.3f}", f"{means['adapter_loss']:.3f}", "")
    assert loss["difference"] == f"{means['adapter_loss'] - means['base_loss']:+.3f}"
    assert (chrf["base"], chrf["adapter"]) == (f"{100 * means['base_chrf']:.1f} %", f"{100 * means['adapter_chrf']:.1f} %")
    assert chrf["baseline"] == f"{100 * means['baseline_chrf']:.1f} %"
    assert all(row["kind"] in ("better", "worse", "same") for row in shown.values())


def test_a_lower_loss_is_better_whatever_its_sign(facts, finished_context):
    write_scores(finished_context.folder.evaluation, "loss", [(2.0, 1.0 - number / 100) for number in range(30)])
    (row,) = facts()["scores"]
    assert (row["word"], row["kind"], row["difference"][0]) == ("better", "better", "-")
    assert [change["input"] for change in facts()["best"]][:2] == ["q29", "q28"]
    assert facts()["worst"] == []


def test_the_ten_rows_that_changed_most_are_shown_for_each_direction_and_no_row_that_did_not(facts, finished_context):
    gains = [number / 100 for number in range(-15, 13)]
    write_scores(finished_context.folder.evaluation, "chrf", [(0.5, 0.5 + gain) for gain in gains])
    found = facts()
    assert [change["input"] for change in found["best"]] == [f"q{place}" for place in range(27, 17, -1)]
    assert [change["input"] for change in found["worst"]] == [f"q{place}" for place in range(10)]
    assert found["worst"][0]["score"] == "50.0 % -> 35.0 %"
    write_scores(finished_context.folder.evaluation, "chrf", [(0.5, 0.5), (0.5, 0.4), (0.5, 0.6)])
    found = facts()
    assert ([row["input"] for row in found["best"]], [row["input"] for row in found["worst"]]) == (["q2"], ["q1"])


def test_settings_are_those_that_are_no_default_and_the_command_sets_them_again(facts, finished_context, t5_folder):
    found = facts()
    assert found["settings"]["MODEL_ID"] == str(t5_folder)
    assert found["settings"]["MAX_STEPS"] == "4"
    assert "LORA_R" not in found["settings"]
    *asked, python, program, command = shlex.split(found["command"])
    assert dict(part.split("=", 1) for part in asked) == found["settings"]
    assert (python, program, command) == ("python", "entrypoint.py", "run")


def test_versions_are_the_jobs_the_libraries_and_the_datas(facts, finished_context):
    from importlib.metadata import version

    found = facts()["versions"]
    assert found["lora-job"] == __version__
    assert all(found[name] == version(name) for name in ("torch", "transformers", "peft", "datasets"))
    assert found["data (sha256)"] == finished_context.prepared.fingerprint
    assert "python" in found


def test_what_it_took_is_what_the_plan_and_the_history_say(facts, finished_context):
    folder = finished_context.folder
    times = {"seconds": {"training": 3600.4, "proof": 59.6}, "energy_j": {"training": 3.6e6, "evaluation": 1.8e6}}
    plan = replace(PlanRecord.read(folder.plan), price_usd_per_hour=2.0, **times)
    plan.write(folder.plan)
    logged = ((1, 1.0, 3.0), (2, 9.0, 4.5), (3, 5.0, 4.0))
    entries = [{"step": step, "examples_per_second": speed, "peak_memory_gib": gib} for step, speed, gib in logged]
    folder.history.write_text(json.dumps(entries))
    costs = facts()["costs"]
    assert (costs["training"], costs["proof"]) == ("1:00:00", "0:01:00")
    assert "preparation" not in costs
    assert (costs["speed"], costs["peak memory"]) == ("5.0 examples/s", "4.50 GiB"), "the median, the peak"
    assert costs["energy"] == "1.500 kWh of the GPU"
    assert costs["cost"] == "2.03 USD at 2.00 an hour", "3660 s"
    dearer = finished_context.settings.model_copy(update={"gpu_hourly_cost": 6.0})
    assert facts(settings=dearer)["costs"]["cost"] == "6.10 USD at 6.00 an hour", "what a person pays, not the catalogue"


def test_what_is_not_known_is_left_out(facts, finished_context):
    finished_context.folder.history.unlink()
    found = facts(prepared=replace(finished_context.prepared, source_lengths={}, target_lengths={}))
    assert not {"energy", "cost", "speed", "tokens", "peak memory"} & set(found["costs"])
    assert (found["curves"], found["lengths"]) == ([], [])


def test_every_curve_that_was_measured_is_drawn_once(facts, finished_context):
    history = [
        {"step": 1, "loss": 2.0, "learning_rate": 1e-3},
        {"step": 2, "eval_loss": 1.5, "eval_chrf": 0.5, "eval_runtime": 3.0, "eval_samples_per_second": 9.0},
    ]
    finished_context.folder.history.write_text(json.dumps(history))
    captions = [plot["caption"] for plot in facts()["curves"]]
    assert captions == ["Cross-entropy a token of the answer", "Held-out rows, answered while training", "Learning rate"]
    finished_context.folder.history.write_text(json.dumps(history[:1]))
    assert [plot["caption"] for plot in facts()["curves"]] == ["Cross-entropy a token of the answer", "Learning rate"]


def test_scores_of_another_scale_have_a_plot_of_their_own(finished_context):
    compared = tuple(MetricComparison(name, 0.1, 0.2, None, 0.1, 0.05, 0.15) for name in ("chrf", "exact_match", "loss", "length"))
    write_scores(finished_context.folder.evaluation, "chrf", [(0.1, 0.2)])
    verdict = Verdict(8, "better", compared[0], compared, None, None)
    found = report_facts(finished_context, verdict, ProofRecord.read(finished_context.folder.proof))
    assert len(found["score_plots"]) == 3, "the two shares of one, loss and a person's own"
    assert found["baseline"] == ""


def test_title_data_and_rows_are_those_of_the_run(facts, finished_context, t5_folder):
    found = facts()
    assert (found["title"], data_name(finished_context)) == ("r", "rows.csv")
    assert found["subtitle"] == f"{t5_folder} on rows.csv: 32 training rows"
    assert [line.split(":")[0] for line in found["data"]] == ["Training rows", "Held-out rows"]
    assert found["proof"].startswith("8 of 8 answers the same")
    assert [plot["caption"] for plot in found["lengths"]] == [
        f"Training rows by tokens an {side}, before the cut" for side in ("input", "answer")
    ]


def test_what_limits_the_scores_stands_beside_them_with_a_link_to_the_look(facts, finished_context):
    prepared = finished_context.prepared
    assert (facts()["data_warnings"], facts()["data_page"]) == ([], "data.html")
    look = replace(prepared.look, shared=Found(3, ("row 9", "row 4")))
    (line,) = facts(prepared=replace(prepared, look=look))["data_warnings"]
    assert "held-out row 9 is training row 4" in line


LOSSES = [{"eval_loss": loss} for loss in (0.5, 0.2, 0.3, 0.4)]
SCORES = [{"eval_exact_match": score} for score in (0.1, 0.9, 0.2)]


BEST = "The adapter is that of step 2, where"


@pytest.mark.parametrize(
    ("changes", "taken", "kept", "history", "said"),
    [
        ({}, 8, 8, LOSSES[:2], "8 of 8 steps."),
        ({}, 8, 2, LOSSES, f"8 of 8 steps. {BEST} loss was best: 0.200."),
        ({"early_stopping_patience": 2}, 4, 2, LOSSES,
         f"4 of 8 steps: stopped early, 2 evaluations without a better loss. {BEST} loss was best: 0.200."),
        ({"early_stopping_patience": 1, "metric_for_best_model": "exact_match"}, 3, 2, SCORES,
         f"3 of 8 steps: stopped early, 1 evaluations without a better exact match. {BEST} exact match was best: 90.0 %."),
        ({"early_stopping_patience": 3, "max_hours": 1}, 4, 4, LOSSES[:2], "4 of 8 steps: ended by MAX_HOURS."),
        ({"eval_strategy": "no"}, 8, 8, [], "8 of 8 steps."),
    ],
)  # fmt: skip
def test_where_the_training_ended_and_why_stands_in_the_report(finished_context, changes, taken, kept, history, said):
    record = AdapterRecord.read(finished_context.folder.adapter_record)
    record = replace(record, adapter_step=kept, steps=taken, total_steps=8)
    settings = finished_context.settings.model_copy(update=changes)
    assert describe_ending(settings, record, history) == said


def test_the_bases_licence_stands_in_the_report_where_its_card_says(facts, monkeypatch):
    assert "base's licence" not in facts()["versions"]
    monkeypatch.setattr("job.pipeline.report.read_licence", lambda base: "apache-2.0")
    assert facts()["versions"]["base's licence"] == "apache-2.0"
