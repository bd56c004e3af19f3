"""Each exception of the hub becomes one line and the exit code that says whether a retry helps. No network is asked here."""

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from job.errors import AccessDenied, DataError, InputMissing, JobError, SettingsError, Transient
from job.system.hub import hub_errors

URL = "https://huggingface.co/someone/model/resolve/main/config.json"


def response(status: int, url: str = URL) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", url))


def http(status: int) -> HfHubHTTPError:
    return HfHubHTTPError(f"{status} says the hub\nand more", response=response(status))


@pytest.fixture(autouse=True)
def online(monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def translated(error: BaseException) -> JobError:
    with pytest.raises(JobError) as raised, hub_errors("MODEL_ID=someone/model: the hub"):
        raise error
    assert raised.value.__cause__ is error, "the traceback of a bug report shows what happened"
    assert str(raised.value).startswith("MODEL_ID=someone/model: the hub ")
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RepositoryNotFoundError("x", response=response(404)), InputMissing, "has no such repository, or it is private"),
        (RepositoryNotFoundError("x", response=response(401)), InputMissing, "for a private one set HF_TOKEN"),
        (RevisionNotFoundError("x", response=response(404)), InputMissing, "Check MODEL_REVISION"),
        (EntryNotFoundError("no config.json"), InputMissing, "lacks a file that was expected: no config.json"),
        (HFValidationError("bad name"), InputMissing, 'A hub id looks like "google/flan-t5-base"'),
        (GatedRepoError("x", response=response(403)), AccessDenied, "Ask for access on https://huggingface.co/someone/model and"),
        (http(401), AccessDenied, "Check that HF_TOKEN is valid"),
        (http(403), AccessDenied, "Check that HF_TOKEN is valid"),
        (http(400), SettingsError, "refuses: 400 says the hub Fix what it names."),
        (http(409), SettingsError, "refuses"),
        (DisabledRepoError("x", response=response(451)), SettingsError, "refuses"),
        (http(408), Transient, "cannot be reached (HfHubHTTPError). Try again"),
        (http(429), Transient, "cannot be reached"),
        (http(500), Transient, "cannot be reached"),
        (http(503), Transient, "cannot be reached"),
        (LocalEntryNotFoundError("no connection and no cache"), Transient, "cannot be reached (LocalEntryNotFoundError)"),
        (httpx2.ConnectTimeout("x"), Transient, "cannot be reached (ConnectTimeout)"),
        (httpx2.RemoteProtocolError("peer closed"), Transient, "cannot be reached (RemoteProtocolError)"),
        (ConnectionResetError("x"), Transient, "cannot be reached (ConnectionResetError)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_the_hub_says_becomes_the_error_whose_code_tells_what_to_do(error, kind, said):
    found = translated(error)
    assert type(found) is kind
    assert said in str(found)


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://huggingface.co/google/gemma/resolve/abc/config.json", "https://huggingface.co/google/gemma"),
        ("https://huggingface.co/api/models/google/gemma", "https://huggingface.co/google/gemma"),
        ("https://huggingface.co/api/datasets/a/b", "https://huggingface.co/datasets/a/b"),
        ("https://huggingface.co/datasets/a/b/resolve/main/x.csv", "https://huggingface.co/datasets/a/b"),
    ],
)
def test_a_gated_repository_names_its_page(url, page):
    assert f"Ask for access on {page} and set HF_TOKEN." in str(translated(GatedRepoError("x", response=response(403, url))))


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("x"), OfflineModeIsEnabled("x")])
def test_offline_a_retry_does_not_help(monkeypatch, error):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = translated(error)
    assert type(found) is InputMissing
    assert "HF_HUB_OFFLINE is set and the cache does not have it. Unset HF_HUB_OFFLINE." in str(found)


def test_the_first_cause_decides_where_transformers_wraps_it():
    def load() -> None:
        try:
            try:
                raise RepositoryNotFoundError("x", response=response(404))
            except RepositoryNotFoundError as error:
                raise LocalEntryNotFoundError("not in the cache") from error
        except LocalEntryNotFoundError as error:
            raise OSError("Can't load config for 'someone/model'") from error

    with pytest.raises(InputMissing, match="has no such repository"), hub_errors("the hub"):
        load()


def test_our_own_errors_pass_as_they_are():
    error = DataError("ours")
    with pytest.raises(DataError) as raised, hub_errors("the hub"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", [ValueError("a bug"), FileNotFoundError("x"), KeyboardInterrupt()])
def test_what_is_not_the_hubs_passes_as_it_is(error):
    with pytest.raises(type(error)) as raised, hub_errors("the hub"):
        raise error
    assert raised.value is error


def test_a_block_that_ends_well_raises_nothing():
    with hub_errors("the hub"):
        found = 1
    assert found == 1
