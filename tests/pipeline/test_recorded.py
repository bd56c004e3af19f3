"""What a run was made with holds where nothing else is set; a model's own code is not trusted for a folder's word."""

import json

import pytest

from job.config.identity import identity
from job.config.settings import Settings
from job.pipeline.recorded import with_recorded
from job.pipeline.run_folder import RunFolder


@pytest.fixture
def folder(finished_run):
    _, path = finished_run
    return RunFolder(path, path)


def test_a_run_is_made_again_from_its_name_alone(folder, make_settings):
    found = with_recorded(Settings(run_name="r"), folder)
    assert identity(found) == identity(make_settings())
    assert found.run_name == "r"


def test_what_is_set_anew_wins_and_is_told(folder, caplog):
    caplog.set_level("INFO", logger="job")
    found = with_recorded(Settings(run_name="r", max_steps=9, metrics="chrf"), folder)
    assert (found.max_steps, found.metrics) == (9, ("chrf",))
    said = [record.getMessage() for record in caplog.records]
    assert "MAX_STEPS=9: the run was made with 4" in said
    assert any(line.startswith("METRICS=chrf: the run was made with exact_match,token_f1") for line in said)
    assert len(said) == 2


def test_a_folder_does_not_decide_that_a_models_code_is_trusted(folder):
    record = json.loads(folder.settings.read_text())
    record["settings"] |= {"trust_remote_code": True, "hf_home": "/elsewhere", "of_a_newer_version": 1}
    folder.settings.write_text(json.dumps(record))
    found = with_recorded(Settings(run_name="r"), folder)
    assert (found.trust_remote_code, found.hf_home) == (False, None)


def test_without_a_record_settings_stay(tmp_path):
    settings = Settings(run_name="none")
    assert with_recorded(settings, RunFolder(tmp_path, tmp_path)) is settings
