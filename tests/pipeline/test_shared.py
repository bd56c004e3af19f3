"""What runs share: the prepared data lie in each folder, on the disk once."""

import os

import pytest

from job.data.prepared import load_prepared
from job.pipeline.prepare import prepare_once
from job.pipeline.run_folder import RunFolder
from job.pipeline.shared import link_data


@pytest.fixture
def preparation(make_settings):
    settings = make_settings(run_name="first")
    folder = RunFolder.of(settings)
    folder.path.mkdir(parents=True)
    return prepare_once(settings, folder)


def test_data_are_linked_into_another_folder_and_whole_there(preparation, tmp_path):
    link_data(preparation, tmp_path / "second")
    assert load_prepared(tmp_path / "second").fingerprint == preparation.prepared.fingerprint
    assert (tmp_path / "second" / "summary.json").samefile(preparation.folder / "summary.json")


def test_data_are_copied_where_the_disk_has_no_hard_links(preparation, tmp_path, monkeypatch):
    def refuse(source: str, destination: str) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    link_data(preparation, tmp_path / "second")
    assert load_prepared(tmp_path / "second").train.to_dict() == preparation.prepared.train.to_dict()
    assert not (tmp_path / "second" / "summary.json").samefile(preparation.folder / "summary.json")


def test_data_that_are_there_already_are_left_and_damaged_ones_replaced(preparation, tmp_path):
    link_data(preparation, tmp_path / "second")
    summary = tmp_path / "second" / "summary.json"
    before = summary.stat()
    link_data(preparation, tmp_path / "second")
    assert summary.stat().st_ctime_ns == before.st_ctime_ns
    summary.unlink()
    link_data(preparation, tmp_path / "second")
    assert load_prepared(tmp_path / "second") is not None
