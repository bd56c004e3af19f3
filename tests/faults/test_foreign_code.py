"""Nothing that lies in a folder is run because it lies there: only what a variable names, said of that very thing."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from job.system.seal import seal

RUN = "import pathlib\npathlib.Path({place!r}).touch()\n"
T5 = "from transformers import T5Config as C, T5ForConditionalGeneration as M, T5TokenizerFast as T\n"


@pytest.fixture
def ran(tmp_path) -> Path:
    """What foreign code leaves."""
    return tmp_path / "ran"


class Evil:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.place}",)


@pytest.fixture
def evil_base(t5_folder, tmp_path, ran) -> Path:
    """A base model with code of its own."""
    folder = tmp_path / "evil_base"
    shutil.copytree(t5_folder, folder)
    (folder / "evil.py").write_text(RUN.format(place=str(ran)) + T5)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "evil.C", "AutoModelForSeq2SeqLM": "evil.M"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": own, "model_type": "evil"}))
    return folder


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("command", [("predict", "rows.csv"), ("merge",), ("check",)], ids=lambda command: command[0])
def test_trust_in_one_model_is_none_in_another_that_an_adapter_names(finished_run, run_job, evil_base, ran, command):
    variables, folder = finished_run
    change(folder / "adapter" / "job.json", base_model=str(evil_base))
    seal(folder / "adapter")
    code, said = run_job(*command, **variables | {"TRUST_REMOTE_CODE": "true"})
    assert code == 78, said
    assert f"it comes with Python code of its own, which is not run. Read it, then set MODEL_ID={evil_base}" in said
    assert not ran.exists()


def test_a_base_with_code_is_refused_until_it_is_trusted(run_job, evil_base, write_rows, questions, ran):
    asked = {"MODEL_ID": evil_base, "TRAIN_DATA": write_rows(questions), "RUN_NAME": "r"}
    code, said = run_job("prepare", **asked)
    assert code == 78
    assert "and TRUST_REMOTE_CODE=true if you trust it" in said
    assert not ran.exists()


def test_a_tokenizer_with_code_is_not_run(finished_run, run_job, ran):
    variables, folder = finished_run
    (folder / "adapter" / "evil.py").write_text(RUN.format(place=str(ran)) + T5)
    change(folder / "adapter" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]}, tokenizer_class="T")
    seal(folder / "adapter")
    assert run_job("predict", "rows.csv", **variables)[0] in (66, 78)
    assert not ran.exists()


@pytest.mark.parametrize("command", [("predict", "rows.csv"), ("merge",), ("check",)], ids=lambda command: command[0])
def test_trust_in_a_base_is_none_in_code_beside_an_adapter(finished_run, run_job, ran, t5_folder, command):
    variables, folder = finished_run
    (folder / "adapter" / "evil.py").write_text(RUN.format(place=str(ran)) + T5)
    change(folder / "adapter" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]}, tokenizer_class="T")
    seal(folder / "adapter")
    code, said = run_job(*command, **variables | {"TRUST_REMOTE_CODE": "true"})
    assert code == 78, said
    assert f"evil.py: TRUST_REMOTE_CODE=true is said of MODEL_ID={t5_folder}, and this is not a file of that model" in said
    assert not ran.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "pytorch_model.bin"])
def test_a_pickle_in_an_adapter_is_not_run(finished_run, run_job, ran, name):
    variables, folder = finished_run
    torch.save(Evil(ran), folder / "adapter" / name)
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    seal(folder / "adapter")
    for command in (("predict", "rows.csv"), ("evaluate",), ("merge",), ("check",)):
        code, said = run_job(*command, **variables)
        assert code == 65, f"{command}: {said}"
    assert not ran.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "adapter.bin", "adapter.safetensors", "optimizer.safetensors"])
def test_a_pickle_in_a_checkpoint_is_not_run(stopped_run, run_job, ran, name):
    variables, folder = stopped_run
    for checkpoint in (folder / "checkpoints").iterdir():
        (checkpoint / name).write_bytes(pickle.dumps(Evil(ran)))
        seal(checkpoint)
    run_job("train", **variables)
    assert not ran.exists()


def test_a_script_among_the_data_is_not_run(run_job, t5_folder, ran):
    Path("rows").mkdir()
    Path("rows/rows.py").write_text(RUN.format(place=str(ran)))
    assert run_job("prepare", MODEL_ID=t5_folder, TRAIN_DATA="rows", RUN_NAME="r")[0] in (65, 66)
    assert not ran.exists()


def test_a_prompt_template_that_an_adapter_names_reaches_nothing_but_the_row(finished_run, run_job):
    variables, folder = finished_run
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }} {{ input }}"
    change(folder / "adapter" / "job.json", prompt_template=template)
    seal(folder / "adapter")
    code, said = run_job("predict", "rows.csv", **variables)
    assert code == 78
    assert "SecurityError" in said
