"""The hub's exceptions, turned into ours.

huggingface_hub itself retries, with backoff: five times each question (5xx, timeouts, no connection), each download that breaks
off, and each part of an upload. It does not retry what makes a repository and commits to it: `publish.upload` does.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from job.errors import AccessDenied, InputMissing, JobError, SettingsError, Transient, causes, first_line

DENIED, MAY_PASS = (401, 403), (408, 429)
"""What a status of the hub means; 408 is a timeout, 429 too many questions at once."""


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turns an exception of the hub or the network, raised inside, into a JobError that begins with `what`."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        # the first cause first: transformers wraps the hub's exceptions into plain OSErrors
        found = next((ours for cause in reversed(causes(error)) if (ours := _translate(cause, what))), None)
        if found is None:
            raise
        raise found from error


def _translate(error: BaseException, what: str) -> JobError | None:
    if isinstance(error, GatedRepoError):
        page = str(error.response.request.url).partition("/resolve/")[0].replace("/api/models/", "/").replace("/api/", "/")
        return AccessDenied(f"{what} asks for permission. Ask for access on {page} and set HF_TOKEN.")
    if isinstance(error, RevisionNotFoundError):
        return InputMissing(f"{what} has no such revision. Check MODEL_REVISION.")
    if isinstance(error, RepositoryNotFoundError):
        return InputMissing(f"{what} has no such repository, or it is private. Check the name; for a private one set HF_TOKEN.")
    if isinstance(error, HFValidationError):
        return InputMissing(f'{what} has no such name. A hub id looks like "google/flan-t5-base", a folder must exist.')
    if constants.HF_HUB_OFFLINE and isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return InputMissing(f"{what} is not asked: HF_HUB_OFFLINE is set and the cache does not have it. Unset HF_HUB_OFFLINE.")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
    if status in DENIED:
        return AccessDenied(f"{what} denies access. Check that HF_TOKEN is valid and has the rights for it.")
    if 400 <= status < 500 and status not in (404, *MAY_PASS):
        return SettingsError(f"{what} refuses: {first_line(error)} Fix what it names.")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return InputMissing(f"{what} lacks a file that was expected: {first_line(error)}")
    if isinstance(error, httpx2.TransportError | LocalEntryNotFoundError | HfHubHTTPError | ConnectionError):
        return Transient(f"{what} cannot be reached ({type(error).__name__}). Try again, or check the network.")
    return None
