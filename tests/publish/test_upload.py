"""The upload: tried again where that can help, and whatever happens, a good run is done."""

import json
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from job.errors import AccessDenied, SettingsError, Transient
from job.publish import upload as module
from job.publish.upload import TRIES, upload

FEW = {"MAX_STEPS": 4, "MAX_NEW_TOKENS": 4, "EVAL_STRATEGY": "no", "RUN_NAME": "r", "METRICS": "exact_match"}


def answer(status: int) -> HfHubHTTPError:
    return HfHubHTTPError(str(status), response=httpx2.Response(status, request=httpx2.Request("POST", "http://hub")))


class Hub:
    """Notes what it is asked; fails with each of `errors` in turn first."""

    def __init__(self, monkeypatch, *errors: Exception) -> None:
        self.errors, self.made, self.uploaded, self.pauses = list(errors), [], [], []
        monkeypatch.setattr(HfApi, "create_repo", lambda api, repo_id, **options: self.make(api.token, repo_id, options))
        monkeypatch.setattr(HfApi, "upload_folder", lambda api, **options: self.upload(options))
        monkeypatch.setattr(module.time, "sleep", self.pauses.append)

    def make(self, token, repo_id: str, options: dict) -> None:
        self.made.append((token, repo_id, options))

    def upload(self, options: dict) -> str:
        if self.errors:
            raise self.errors.pop(0)
        self.uploaded.append((options["repo_id"], {path.name for path in Path(options["folder_path"]).iterdir()}))
        return f"https://hub/{options['repo_id']}"


def test_passing_trouble_is_tried_again_with_growing_pauses(monkeypatch, tmp_path):
    hub = Hub(monkeypatch, answer(503), httpx2.ConnectError("no"), answer(500))
    assert upload(tmp_path, "me/mine", "hf_secret", private=True) == "https://hub/me/mine"
    assert hub.pauses == [2, 4, 8]
    assert hub.made[0] == ("hf_secret", "me/mine", {"private": True, "exist_ok": True})


def test_it_ends_after_some_tries_and_at_once_where_access_is_denied(monkeypatch, tmp_path):
    hub = Hub(monkeypatch, *[answer(503)] * 10)
    with pytest.raises(Transient):
        upload(tmp_path, "me/mine", None, private=True)
    assert len(hub.pauses) == TRIES - 1
    hub = Hub(monkeypatch, answer(403))
    with pytest.raises(AccessDenied, match="HUB_MODEL_ID=me/mine: the hub denies access"):
        upload(tmp_path, "me/mine", None, private=True)
    assert hub.pauses == []


def test_a_run_uploads_adapter_and_card_last(monkeypatch, run_job, t5_folder, write_rows, questions):
    hub = Hub(monkeypatch)
    code, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), PUSH_TO_HUB="true", HUB_MODEL_ID="me/mine", **FEW)
    assert code == 0, said
    ((repository, files),) = hub.uploaded
    assert repository == "me/mine"
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json", "job.json"} <= files
    assert json.loads(Path("output/r/status.json").read_text())["hub"] == "https://hub/me/mine"


@pytest.mark.parametrize("error", [answer(401), RuntimeError("surprise")], ids=["denied", "surprise"])
def test_a_run_whose_upload_fails_is_done(error, monkeypatch, run_job, t5_folder, write_rows, questions):
    Hub(monkeypatch, error)
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "PUSH_TO_HUB": "true", "HUB_MODEL_ID": "me/mine"}
    code, said = run_job(**variables, **FEW, HF_TOKEN="hf_secret_secret")
    assert code == 0
    assert "PUSH_TO_HUB: not uploaded" in said
    status = json.loads(Path("output/r/status.json").read_text())
    assert status["state"] == "done"
    assert status["hub_error"]
    assert "hf_secret" not in said + json.dumps(status)


def test_an_upload_needs_a_name(run_job):
    code, said = run_job(PUSH_TO_HUB="true")
    assert code == 78
    assert "PUSH_TO_HUB=true needs HUB_MODEL_ID. Set it" in said


def test_a_run_that_is_done_uploads_what_was_not_uploaded(monkeypatch, run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | FEW
    assert run_job(**variables)[0] == 0
    Hub(monkeypatch, answer(403))
    pushed = variables | {"PUSH_TO_HUB": "true", "HUB_MODEL_ID": "me/mine"}
    assert run_job(**pushed)[0] == 0
    hub = Hub(monkeypatch)
    for _ in range(2):
        assert run_job(**pushed)[0] == 0
    assert len(hub.uploaded) == 1, "once is enough"
    status = json.loads(Path("output/r/status.json").read_text())
    assert status["hub"] == "https://hub/me/mine"
    assert "hub_error" not in status


def test_what_the_hub_refuses_is_not_tried_again(monkeypatch, tmp_path):
    hub = Hub(monkeypatch, answer(400))
    with pytest.raises(SettingsError, match="HUB_MODEL_ID=me/mine: the hub refuses"):
        upload(tmp_path, "me/mine", None, private=True)
    assert hub.pauses == []
