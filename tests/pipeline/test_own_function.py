"""Only a function that PREPROCESS names is run, and only if it is the one that the adapter was trained with."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from job.errors import SettingsError
from job.pipeline.own_function import own_function
from job.pipeline.records import AdapterRecord
from job.system.seal import seal

PROGRAM = "from pathlib import Path\nPath('ran').touch()\ndef shout(row):\n    return row | {'input': row['input'].upper()}\n"


@pytest.fixture
def record(finished_run) -> AdapterRecord:
    """Of an adapter that was trained with the function `shout` of own.py."""
    Path("own.py").write_text(PROGRAM)
    found = AdapterRecord.read(finished_run[1] / "adapter" / "job.json")
    digest = hashlib.sha256(PROGRAM.encode()).hexdigest()
    return replace(found, preprocess="/elsewhere/own.py:shout", preprocess_sha256=digest)


def test_the_function_of_the_training_is_taken_wherever_its_file_lies_now(record):
    assert own_function("own.py:shout", record) == "own.py:shout"
    assert own_function(None, replace(record, preprocess=None, preprocess_sha256=None)) is None


def test_what_an_older_version_left_has_no_sha256_and_its_name_must_do(record):
    Path("own.py").write_text("def shout(row): return row\n")
    assert own_function("own.py:shout", replace(record, preprocess_sha256=None)) == "own.py:shout"


@pytest.mark.parametrize(("named", "told"), [
    (None, r"PREPROCESS is not set, and the adapter was trained with /elsewhere/own.py:shout. Set PREPROCESS to that function"),
    ("own.py:other", r"PREPROCESS=own.py:other: the adapter was trained with the function shout. Name that one"),
    ("changed.py:shout", r"changed.py is not the file that the adapter was trained with \(sha256 [0-9a-f]{64}\). Bring that one"),
])  # fmt: skip
def test_another_function_is_refused_before_it_is_run(record, named, told):
    Path("changed.py").write_text(PROGRAM + "\n")
    with pytest.raises(SettingsError, match=told):
        own_function(named, record)
    assert not Path("ran").exists()


def test_an_adapter_without_one_takes_none(record):
    with pytest.raises(SettingsError, match=r"own.py:shout: the adapter was trained without such a function. Leave PREPROCESS out"):
        own_function("own.py:shout", replace(record, preprocess=None))


def test_predict_runs_nothing_that_the_folder_of_an_adapter_names(finished_run, run_job):
    variables, folder = finished_run
    Path("evil.py").write_text(PROGRAM)
    path = folder / "adapter" / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"preprocess": "evil.py:shout"}))
    seal(folder / "adapter")
    code, said = run_job("predict", "rows.csv", **variables)
    assert code == 78
    assert "what an adapter's folder names is not run" in said
    assert not Path("ran").exists()


def test_rows_are_rewritten_once_for_an_adapter_that_learned_them_so(run_job, t5_folder, write_rows, questions):
    """A function that is applied twice to a row shows."""
    Path("own.py").write_text("def longer(row):\n    return row | {'input': row['input'] + '!'}\n")
    variables = {
        "MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "MAX_STEPS": 1, "MAX_NEW_TOKENS": 2,
        "METRICS": "exact_match", "PREPROCESS": "own.py:longer", "PROMPT_TEMPLATE": "{input}", "EVAL_STRATEGY": "no",
    }  # fmt: skip
    code, said = run_job(**variables)
    assert code == 0, said
    told = json.loads(Path("output/r/adapter/job.json").read_text())
    assert told["preprocess_sha256"] == hashlib.sha256(Path("own.py").read_bytes()).hexdigest()
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        from job.pipeline import trained_adapter

        usual = trained_adapter.encode_prompts
        patch.setattr(trained_adapter, "encode_prompts", lambda texts, *more: asked.extend(texts) or usual(texts, *more))
        assert run_job("predict", "rows.csv", **variables)[0] == 0
    assert asked == [f"{row['input']}!" for row in questions]
