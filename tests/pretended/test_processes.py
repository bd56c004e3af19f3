"""Processes of their own: two on two cards, and one that is killed and resumed with FULL_DETERMINISM."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import DEMO_BASE, environment_with
from tests.pretended.conftest import SHORT

ROOT = Path(__file__).parents[2]
SITE = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.pretended_gpu import pretended
held = pretended({{card!r}}, cards=2)
held.__enter__()
"""
"""What Python runs first in each process."""


@pytest.fixture
def start(tmp_path, write_rows, questions):
    """Starts a command on a pretended card: start("A100", "run", RUN_NAME="x")."""
    write_rows(questions)

    def start(card: str, command: str, **variables: object) -> subprocess.Popen:
        site = tmp_path / "site" / "sitecustomize.py"
        site.parent.mkdir(exist_ok=True)
        site.write_text(SITE.format(card=card))
        environment = environment_with(SHORT | {"MODEL_ID": DEMO_BASE, "PADDING_FREE": "true"} | variables)
        environment["PYTHONPATH"] = str(site.parent)
        with (tmp_path / "log.txt").open("a") as log:
            command_line = [sys.executable, str(ROOT / "entrypoint.py"), command]
            return subprocess.Popen(command_line, cwd=tmp_path, env=environment, stdout=log, stderr=log)

    return start


def adapter(run: str) -> dict:
    return load_file(f"output/{run}/adapter/adapter_model.safetensors")


def test_two_cards_train_the_adapter_of_one_and_a_fresh_process_proves_it(start):
    alone = start("A100", "train", RUN_NAME="one", PRECISION="fp32", LORA_DROPOUT="0")
    assert alone.wait(timeout=300) == 0, Path("log.txt").read_text()[-3000:]
    both = start("A100", "run", RUN_NAME="two", PRECISION="fp32", LORA_DROPOUT="0", NPROC_PER_NODE=2)
    assert both.wait(timeout=300) == 0, Path("log.txt").read_text()[-3000:]
    assert "3 of 3 answers the same" in Path("log.txt").read_text()
    one, two = adapter("one"), adapter("two")
    one_vector, two_vector = (torch.cat([found[name].flatten() for name in sorted(found)]) for found in (one, two))
    assert (two_vector - one_vector).norm() < 1e-4 * one_vector.norm(), "half the micro-batch alone, on one CPU, makes 2.4e-5"
    assert json.loads(Path("output/two/plan.json").read_text())["micro_batch"] == 4


def test_a_run_that_was_killed_ends_bit_for_bit_as_one_that_was_not(start):
    options = {"FULL_DETERMINISM": "true", "MAX_STEPS": 4, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 1}
    whole = start("T4", "train", RUN_NAME="whole", **options)
    killed = start("T4", "train", RUN_NAME="killed", **options)
    end = time.monotonic() + 200
    while not list(Path("output/killed").glob("checkpoints/checkpoint-*/manifest.json")) and killed.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -9
    assert not Path("output/killed/adapter").exists()
    assert start("T4", "train", RUN_NAME="killed", **options).wait(timeout=200) == 0, Path("log.txt").read_text()[-3000:]
    assert whole.wait(timeout=200) == 0
    assert "resuming from" in Path("log.txt").read_text()
    one, other = adapter("whole"), adapter("killed")
    assert all(bool((one[name] == other[name]).all()) for name in one)
