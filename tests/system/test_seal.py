"""A sealed folder is whole or it does not count."""

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import IO

import pytest

from job.system import durable, seal
from job.system.seal import ADDED, CHANGED, MANIFEST, MISSING, damage, is_whole, seal_again, seal_files, sha256


def fail_to_open(patch: pytest.MonkeyPatch, name: str) -> None:
    """Makes a bad block of every file of that name."""
    usual = Path.open

    def open_(path: Path, *more: object, **options: object) -> IO:
        if path.name == name:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return usual(path, *more, **options)

    patch.setattr(Path, "open", open_)


@pytest.fixture
def sealed(tmp_path) -> Path:
    """A folder of two files, one of them in a folder within."""
    folder = tmp_path / "sealed"
    (folder / "state").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights")
    (folder / "state" / "progress.json").write_text('{"step": 3}')
    seal.seal(folder)
    return folder


def test_the_manifest_holds_the_sha256_of_every_file(sealed):
    assert json.loads((sealed / MANIFEST).read_text()) == {
        "state/progress.json": hashlib.sha256(b'{"step": 3}').hexdigest(),
        "weights.bin": hashlib.sha256(b"weights").hexdigest(),
    }


def test_a_hash_is_that_of_the_whole_file_however_large(tmp_path, monkeypatch):
    monkeypatch.setattr(seal, "CHUNK_BYTES", 4)
    content = bytes(range(251)) * 3
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_every_file_and_folder_is_on_the_disk_before_the_manifest_has_its_name(sealed, monkeypatch):
    events, replace, fsync = [], os.replace, os.fsync

    def note_flush(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        fsync(descriptor)

    monkeypatch.setattr(durable.os, "fsync", note_flush)
    monkeypatch.setattr(durable.os, "replace", lambda a, b: events.append(f"-> {b.name}") or replace(a, b))
    seal.seal(sealed)
    named = events.index(f"-> {MANIFEST}")
    assert set(events[:named]) == {"weights.bin", "progress.json", "state", f"{MANIFEST}.partial"}
    assert events[named + 1 :] == ["sealed", sealed.parent.name]


def test_a_folder_without_a_manifest_is_not_whole(sealed, tmp_path):
    assert is_whole(sealed)
    (sealed / MANIFEST).unlink()
    assert damage(sealed) == {MANIFEST: MISSING}
    assert not is_whole(tmp_path / "nowhere")


def test_a_file_more_or_less_or_another_one_is_told_by_its_name(sealed):
    (sealed / "state" / "added").touch()
    assert damage(sealed) == {"state/added": ADDED}
    assert damage(sealed, complete=False) == {}
    (sealed / "weights.bin").write_bytes(b"weightz")
    (sealed / "state" / "progress.json").unlink()
    assert damage(sealed) == {"state/added": ADDED, "weights.bin": CHANGED, "state/progress.json": MISSING}


def test_what_programs_hide_in_a_folder_is_no_part_of_it(sealed):
    for name in (".DS_Store", ".nfs000001", ".cache/huggingface/x.lock"):
        (sealed / name).parent.mkdir(parents=True, exist_ok=True)
        (sealed / name).touch()
    assert is_whole(sealed)


def test_a_folder_in_the_place_of_a_file_is_a_file_that_is_missing(sealed):
    (sealed / "weights.bin").unlink()
    (sealed / "weights.bin").mkdir()
    assert damage(sealed) == {"weights.bin": MISSING}
    (sealed / MANIFEST).unlink()
    (sealed / MANIFEST).mkdir()
    assert damage(sealed) == {MANIFEST: MISSING}


@pytest.mark.parametrize("failing", ["weights.bin", MANIFEST])
def test_a_disk_that_fails_is_no_word_on_what_is_on_it(sealed, monkeypatch, failing):
    fail_to_open(monkeypatch, failing)
    with pytest.raises(OSError, match="Input/output error"):
        damage(sealed)
    assert not is_whole(sealed)


def test_a_manifest_that_was_not_finished_does_not_count(sealed):
    """A kill while the manifest is written leaves it under another name."""
    (sealed / MANIFEST).rename(sealed / f"{MANIFEST}.partial")
    assert not is_whole(sealed)
    seal.seal(sealed)
    assert set(json.loads((sealed / MANIFEST).read_text())) == {"state/progress.json", "weights.bin"}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", "null", '{"weights.bin": "abc"}', "\udcff"])
def test_a_damaged_manifest_is_not_whole(sealed, content):
    (sealed / MANIFEST).write_bytes(content.encode(errors="surrogateescape"))
    assert not is_whole(sealed)


def test_a_file_that_was_replaced_on_purpose_is_sealed_again_and_damage_of_another_stays_damage(sealed):
    (sealed / "weights.bin").write_bytes(b"damaged")
    (sealed / "state" / "progress.json").write_text("new")
    seal_again(sealed, "state/progress.json")
    assert damage(sealed) == {"weights.bin": CHANGED}


def test_some_files_of_a_folder_are_sealed_and_others_beside_them_are_not(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).touch()
    seal_files(tmp_path, ["a"])
    (tmp_path / "b").unlink()
    assert damage(tmp_path, complete=False) == {}
    (tmp_path / "a").unlink()
    assert damage(tmp_path, complete=False) == {"a": MISSING}


def test_files_get_the_mode_that_others_of_this_person_have(tmp_path):
    before = os.umask(0o022)
    try:
        made = tmp_path / "checkpoint-1"
        made.mkdir()
        (made / "weights.bin").touch(mode=0o600)
        seal.seal(made)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir()} == {0o644}
