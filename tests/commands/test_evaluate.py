"""The command `evaluate`: again, with other settings of the evaluation, of the adapter that is there."""

import csv
import json
from pathlib import Path

from job.pipeline.run_folder import RunFolder


def test_evaluate_takes_new_evaluation_settings(finished_run, run_job):
    variables, folder = finished_run
    code, said = run_job("evaluate", **variables | {"METRICS": "chrf", "EVAL_MAX_ROWS": 3})
    assert code == 0, said
    assert "on 3 rows: chrf" in said
    header = (folder / "evaluation.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    assert header == "input,ground_truth,base_output,adapter_output,baseline_output,base_chrf,adapter_chrf,baseline_chrf"


def test_a_run_is_known_by_the_settings_that_it_was_evaluated_with_last(finished_run, run_job):
    variables, folder = finished_run
    newer = variables | {"METRICS": "chrf", "NUM_BEAMS": 2}
    assert run_job("evaluate", **newer)[0] == 0
    code, said = run_job(**newer)
    assert code == 0
    assert "on 8 rows: chrf" in said
    assert json.loads((folder / "proof.json").read_text())["expected"]["num_beams"] == 2
    assert run_job("merge", **newer)[0] == 0
    code, said = run_job(**variables)
    assert code == 0, "the same .env as ever; the run is finished, whatever it was evaluated with since"
    assert "is finished: nothing to do. OVERWRITE=true starts it again" in said
    assert "on 8 rows: chrf" in said


def test_evaluate_deletes_no_adapter(finished_run, run_job):
    variables, folder = finished_run
    assert run_job("evaluate", **variables | {"OVERWRITE": "true"})[0] == 0
    assert (folder / "adapter").exists()
    code, said = run_job("evaluate", **variables | {"RUN_NAME": "none", "OVERWRITE": "true"})
    assert code == 66
    assert "no adapter there" in said


def test_without_an_adapter_no_folder_is_made(run_job):
    code, said = run_job("evaluate", RUN_NAME="none")
    assert code == 66
    assert "output/none: no adapter there. Set RUN_NAME to a finished run in OUTPUT_DIR=output." in said
    assert not Path("output/none").exists()
    assert not Path("logs/none").exists()


def test_the_same_evaluation_gives_the_same_scores_and_a_finished_run(finished_run, run_job):
    variables, folder = finished_run
    before = (folder / "evaluation.csv").read_bytes()
    adapter = (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert run_job("evaluate", **variables)[0] == 0
    assert (folder / "evaluation.csv").read_bytes() == before
    assert (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == adapter
    assert RunFolder(folder, folder).is_done


def test_what_was_trained_otherwise_is_refused_and_stays_finished(finished_run, run_job):
    variables, folder = finished_run
    before = (folder / "evaluation.csv").read_bytes()
    code, said = run_job("evaluate", **variables | {"LORA_R": 4, "METRICS": "chrf"})
    assert code == 78
    assert "LORA_R was 16 and is 4" in said
    assert (folder / "evaluation.csv").read_bytes() == before


def test_all_that_tells_of_the_evaluation_is_of_the_new_one(finished_run, run_job):
    variables, folder = finished_run
    assert run_job("evaluate", **variables | {"METRICS": "chrf", "EVAL_MAX_ROWS": 3})[0] == 0
    with (folder / "evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    mean = sum(float(row["adapter_chrf"]) for row in rows) / 3
    verdict, status = (json.loads((folder / name).read_text()) for name in ("verdict.json", "status.json"))
    assert (verdict["verdict"]["rows"], [one["metric"] for one in verdict["verdict"]["compared"]]) == (3, ["chrf"])
    assert abs(verdict["verdict"]["headline"]["adapter"] - mean) < 1e-12
    assert status["headline"] == verdict["verdict"]["headline"]
    assert len(json.loads((folder / "proof.json").read_text())["expected"]["outputs"]) == 3
    assert " on 3 held-out rows</p>\n<p>chrf " in (folder / "report.html").read_text()
    assert " on 3 rows: chrf" in (folder / "adapter" / "README.md").read_text()


def test_the_name_of_the_run_is_enough_and_what_is_set_anew_wins(finished_run, run_job):
    _, folder = finished_run
    before = (folder / "evaluation.csv").read_bytes()
    code, said = run_job("evaluate", RUN_NAME="r")
    assert code == 0, said
    assert (folder / "evaluation.csv").read_bytes() == before
    code, said = run_job("evaluate", RUN_NAME="r", METRICS="chrf", EVAL_MAX_ROWS=3)
    assert code == 0, said
    assert "EVAL_MAX_ROWS=3: the run was made with 1000" in said
    assert "on 3 rows: chrf" in said
    code, said = run_job("evaluate", RUN_NAME="r", LORA_R=4)
    assert code == 78
    assert "LORA_R was 16 and is 4" in said
