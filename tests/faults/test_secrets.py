"""A token is in no file and no line, whether a run ends well or badly."""

import subprocess
import sys
from pathlib import Path

import pytest

import entrypoint
from tests.conftest import environment_with

TOKEN = "hf_" + "PlantedToken" * 3


@pytest.mark.parametrize(("changes", "expected"), [({}, 0), ({"INPUT_COLUMN": "nothing"}, 65), ({"MODEL_ID": "someone/x"}, 66)])
@pytest.mark.slow
@pytest.mark.parametrize("as_file", [False, True])
def test_the_token_is_nowhere(t5_folder, write_rows, questions, tmp_path, changes, expected, as_file):
    secret = tmp_path / "secret"
    secret.write_text(TOKEN)
    variables = {
        "MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r", "MAX_STEPS": 1, "METRICS": "exact_match",
        "MAX_NEW_TOKENS": 2, "LOG_LEVEL": "debug", "HF_HUB_OFFLINE": 1, "PREPROCESSING_NUM_WORKERS": 1,
    }  # fmt: skip
    variables |= ({"HF_TOKEN_FILE": secret} if as_file else {"HF_TOKEN": TOKEN}) | changes
    command = [sys.executable, entrypoint.__file__, "run"]
    result = subprocess.run(command, cwd=tmp_path, env=environment_with(variables), capture_output=True, text=True, check=False)
    assert result.returncode == expected, result.stderr
    assert TOKEN not in result.stdout + result.stderr
    written = [path for folder in ("output", "logs") for path in Path(folder).rglob("*") if path.is_file()]
    assert len(written) > (10 if expected == 0 else 0)
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
