"""The page of a sweep: what it says of a study whose numbers are known, on one page that needs nothing else."""

import re
from dataclasses import replace

import pytest

from job.config.search_space import read_axes
from job.evaluation.learning_curve import LearningCurve
from job.evaluation.verdict import MetricComparison, Verdict
from job.pipeline.run_folder import RunFolder
from job.pipeline.sweep_report import Found, sweep_facts, write_sweep_page
from job.pipeline.sweep_study import finish_trial, is_hopeless, next_trial, open_study
from job.pipeline.sweep_trials import sweep_settings, tried_run

pytestmark = pytest.mark.slow

CURVE = LearningCurve((10, 100), (2.0, 1.0), 0.3, 0.2, 0.4)


@pytest.fixture
def page(make_settings, tmp_path) -> str:
    """That of six trials: the third is the best, the fifth was given up, the last diverged."""
    settings = make_settings(sweep="LORA_R=4..64 LEARNING_RATE=1e-4..1e-2", eval_strategy="epoch")
    own, axes = sweep_settings(settings), read_axes(settings)
    study = open_study(tmp_path / "study.db", {}, False, [{"lora_r": 16, "learning_rate": 1e-3}])
    for value, error in ((0.5, ""), (0.4, ""), (0.1, ""), (0.7, ""), (None, ""), (None, "Diverged: step 3 <nan>")):
        trial, _ = next_trial(study, axes, "a", 9, seed=1)
        if value is None and not error:
            is_hopeless(trial, [0.9])
        finish_trial(study, trial, value, error)
    headline = MetricComparison("exact_match", 0.0, 0.9, None, 0.9, 0.85, 0.95)
    verdict = Verdict(120, "better", headline, (headline,), None, None)
    runs = [tried_run(own, axes, trial) for trial in study.trials]
    folder = RunFolder(tmp_path, tmp_path)
    return write_sweep_page(folder, own, study, runs, Found(verdict, CURVE, 3.6)).read_text()


def test_the_cost_is_that_of_the_machines_time_however_many_trials_ran_at_once(make_settings, tmp_path):
    settings = make_settings(sweep="LORA_R=4,8", eval_strategy="epoch")
    own, axes = sweep_settings(settings), read_axes(settings)
    study = open_study(tmp_path / "study.db", {}, False, [])
    for _ in range(2):
        finish_trial(study, next_trial(study, axes, "a", 9, seed=1)[0], 0.5)
    runs = [replace(tried_run(own, axes, trial), seconds=3600.0) for trial in study.trials]
    headline = MetricComparison("exact_match", 0.0, 0.9, None, 0.9, 0.85, 0.95)
    verdict = Verdict(120, "better", headline, (headline,), None, None)
    for processes, cost in ((1, "16.00"), (2, "8.00")):
        facts = sweep_facts(own, study, runs, Found(verdict, None, 8.0, processes))
        assert facts["costs"]["cost"] == f"{cost} USD at 8.00 an hour of the machine"


def cells(page: str) -> list[list[str]]:
    """The table of the trials."""
    table = page.split("<h2>Trials</h2>")[1].split("</table>", maxsplit=1)[0]
    return [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in table.splitlines() if "<td" in line]


def test_each_trial_has_its_line(page):
    lines = cells(page)
    assert [line[0] for line in lines] == [f"r-sweep-0{number}" for number in range(6)]
    assert lines[0][1:4] == ["16", "0.001", "0.5"]
    assert [line[4] for line in lines] == ["3", "2", "1", "4", "", ""]
    assert [line[6] for line in lines] == ["complete"] * 4 + ["given up", "failed: Diverged: step 3 &lt;nan&gt;"]
    assert lines[4][3] == "0.9"


def test_the_verdict_the_winner_and_its_report_come_first(page):
    head = page.split("<h2>")[0]
    assert "on 120 held-out rows that no trial was chosen by" in head
    assert "exact match 0.0 % -&gt; 90.0 % (+90.0, 95 % interval +85.0 to +95.0)" in head
    assert 'href="../r-sweep-02/report.html"' in head
    assert "Twice the data would be expected to help, 100 -&gt; 200 training rows" in head


def test_it_shows_the_best_so_far_what_mattered_and_the_learning_curve(page):
    assert page.count("<svg ") == 3
    for caption in ("at its best evaluation", "PED-ANOVA", "the power law through it"):
        assert caption in page


def test_it_is_one_page_without_scripts_or_anything_from_elsewhere(page):
    assert "<script" not in page
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page).replace("http://www.w3.org/TR", "")
    assert not re.findall(r'(?:src|href)="(?!\.\./r-sweep|#)[^"]*"', bare)
    assert "http" not in bare
    assert "prefers-color-scheme: dark" in page


def test_the_line_for_the_best_run_trains_that_run_and_no_sweep(page):
    command = page.split("<pre>")[1].split("</pre>")[0]
    assert "RUN_NAME=r-sweep-02" in command
    assert "TEST_FRACTION=0.5" in command
    assert "SWEEP" not in command
