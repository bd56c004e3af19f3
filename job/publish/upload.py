"""The adapter on the hub: the last thing a run does, and nothing that could spoil it."""

import logging
import time
from pathlib import Path

from huggingface_hub import HfApi

from job.errors import Transient
from job.system.hub import hub_errors

log = logging.getLogger(__name__)

TRIES, FIRST_PAUSE_S = 5, 2.0
"""The pause doubles from one try to the next."""


def upload(folder: Path, repo_id: str, token: str | None, private: bool) -> str:
    """Puts the files of `folder` into the model repository `repo_id`, made if need be; the address of what is there now.

    Retries the commit, which huggingface_hub does not. Raises AccessDenied, InputMissing or SettingsError at once, Transient after
    some tries.
    """
    pause_s = FIRST_PAUSE_S
    for _ in range(TRIES - 1):
        try:
            return _try_upload(folder, repo_id, token, private)
        except Transient as error:
            log.warning("%s The next try is in %.0f s.", error, pause_s)
            time.sleep(pause_s)
            pause_s *= 2
    return _try_upload(folder, repo_id, token, private)


def _try_upload(folder: Path, repo_id: str, token: str | None, private: bool) -> str:
    api = HfApi(token=token)
    with hub_errors(f"HUB_MODEL_ID={repo_id}: the hub"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Adapter and card from lora-job"))


def upload_if_possible(folder: Path, repo_id: str, token: str | None, private: bool) -> tuple[str | None, str | None]:
    """(address of what was uploaded, None), or (None, what went wrong), whatever that is: a good run does not fail for it."""
    try:
        address = upload(folder, repo_id, token, private)
    except Exception as error:
        log.warning("PUSH_TO_HUB: not uploaded: %s The adapter is whole in %s; run the same command to try again.", error, folder)
        return None, str(error)
    log.info("uploaded: %s", address)
    return address, None
