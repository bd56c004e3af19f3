"""The last step: card, report and table of runs, then the run is done, then the upload."""

import csv
import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from job import __version__
from job.pipeline import publish as module
from job.pipeline.evaluate import verdict_of
from job.pipeline.publish import hand_over, publish, upload_once
from job.pipeline.records import StatusRecord


@pytest.fixture
def unpublished(finished_context):
    """The context of a run that is verified and not yet published."""
    folder = finished_context.folder
    for path in (folder.status, folder.report, folder.verdict, folder.adapter / "README.md"):
        path.unlink()
    return finished_context


@pytest.fixture
def uploads(monkeypatch):
    """What is asked of the hub; it answers with what is put into `answers`."""
    asked, answers = [], [("https://hub/me/mine", None)]
    monkeypatch.setattr(module, "upload_if_possible", lambda *call: asked.append(call) or answers[-1])
    return asked, answers


def wanted(context, **changes):
    """The settings with an upload."""
    return context.settings.model_copy(update={"push_to_hub": True, "hub_model_id": "me/mine"} | changes)


def test_a_published_run_is_done_and_says_in_its_status_what_the_table_says(unpublished):
    publish(unpublished)
    folder = unpublished.folder
    with folder.evaluation.open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = StatusRecord.read(folder.status)
    assert (told.state, told.adapter, told.error, told.hub) == ("done", "output/r/adapter", None, None)
    mean = sum(float(row[f"adapter_{told.headline.metric}"]) for row in rows) / len(rows)
    assert told.headline.adapter == pytest.approx(mean)
    assert told.summary.startswith(f"{told.verdict} on {len(rows)} rows: ")
    assert told.proof.startswith("8 of 8 answers the same")
    assert folder.report.exists()


def test_the_run_is_not_done_before_card_and_report_are_there(unpublished, monkeypatch):
    def fail(*_: object) -> None:
        assert (unpublished.folder.adapter / "README.md").exists()
        raise RuntimeError("no report")

    monkeypatch.setattr(module, "write_report", fail)
    with pytest.raises(RuntimeError, match="no report"):
        publish(unpublished)
    assert not unpublished.folder.is_done


def test_the_card_has_the_scores_of_the_table_and_the_versions(unpublished, t5_folder):
    publish(unpublished)
    path = unpublished.folder.adapter / "README.md"
    scores = {result.metric_type: result.metric_value for result in ModelCard.load(path).data.eval_results}
    with unpublished.folder.evaluation.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for metric, value in scores.items():
        assert value == pytest.approx(sum(float(row[f"adapter_{metric}"]) for row in rows) / len(rows), abs=1e-6)
    assert len(scores) == 8
    text = path.read_text()
    assert "trained by lora-job on rows.csv (32 rows)" in text
    assert f"`{t5_folder}`" in text
    assert f"- `lora-job`: {__version__}" in text
    assert "- `MAX_STEPS`: 4" in text


def test_the_table_of_runs_has_the_final_scores(unpublished):
    for path in unpublished.folder.logs.iterdir():
        path.unlink()
    publish(unpublished)
    events = EventAccumulator(str(unpublished.folder.logs)).Reload()
    verdict = verdict_of(unpublished.folder)
    assert set(events.Tags()["scalars"]) == {f"final/{one.metric}" for one in verdict.compared}
    for one in verdict.compared:
        (event,) = events.Scalars(f"final/{one.metric}")
        assert (event.step, event.value) == (4, pytest.approx(one.adapter, rel=1e-6))


def test_without_tensorboard_there_is_no_table_of_runs(unpublished, monkeypatch):
    monkeypatch.setattr(module, "write_final_scores", lambda *_: pytest.fail("it was written"))
    settings = unpublished.settings.model_copy(update={"report_to": ("none",)})
    publish(replace(unpublished, settings=settings))


def test_the_upload_comes_once_the_run_is_done(unpublished, monkeypatch):
    states = []

    def upload(*_: object) -> tuple[str, None]:
        states.append(unpublished.folder.is_done)
        return "https://hub/me/mine", None

    monkeypatch.setattr(module, "upload_if_possible", upload)
    publish(replace(unpublished, settings=wanted(unpublished)))
    assert states == [True]
    assert StatusRecord.read(unpublished.folder.status).hub == "https://hub/me/mine"


def test_an_upload_that_failed_is_tried_again_and_one_that_did_not_is_not(finished_context, uploads):
    asked, answers = uploads
    folder, settings = finished_context.folder, wanted(finished_context, hub_private_repo=False)
    before = json.loads(folder.status.read_text())
    answers.append((None, "the hub is away"))
    upload_once(settings, folder)
    told = StatusRecord.read(folder.status)
    assert (told.state, told.hub, told.hub_error) == ("done", None, "the hub is away"), "the run is done all the same"
    answers.append(("https://hub/me/mine", None))
    upload_once(settings, folder)
    upload_once(settings, folder)
    assert asked == [(folder.adapter, "me/mine", None, False)] * 2
    after = json.loads(folder.status.read_text())
    assert after.pop("hub") == "https://hub/me/mine"
    assert "hub_error" not in after
    assert after == before


@pytest.mark.parametrize("changes", [{"push_to_hub": False}, {"hub_model_id": None}])
def test_nothing_is_uploaded_that_nobody_wants_uploaded(finished_context, uploads, changes):
    before = finished_context.folder.status.read_bytes()
    upload_once(wanted(finished_context, **changes), finished_context.folder)
    assert uploads[0] == []
    assert finished_context.folder.status.read_bytes() == before


def test_the_adapter_is_also_put_where_an_engine_collects_it(finished_context, tmp_path):
    target = tmp_path / "opt" / "model"
    target.mkdir(parents=True)
    (target / "adapter_config.json").write_text("of an earlier run")
    hand_over(finished_context.settings.model_copy(update={"export_dir": target}), finished_context.folder)
    files = {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    adapter = finished_context.folder.adapter
    assert files == {path.relative_to(adapter): path.read_bytes() for path in adapter.rglob("*") if path.is_file()}
    assert len(files) > 4
