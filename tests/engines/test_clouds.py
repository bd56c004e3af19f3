"""The job as the clouds' training services start it: their folders and variables, and nothing else. No cloud has run it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from job.config.environment import KNOWN

ROOT = Path(__file__).parents[2]
PLAIN = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OUTPUT_DIR": "/output", "LOGS_DIR": "/logs"}
"""What is there without a cloud: the image's own variables."""
SHORT = {"MAX_STEPS": "2", "EVAL_STRATEGY": "no", "EVAL_MAX_ROWS": "4", "MAX_NEW_TOKENS": "4", "METRICS": "exact_match",
         "DEVICE": "cpu", "MODEL_ID": str(ROOT / "job/demo/base")}  # fmt: skip
PROGRAM = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from job.config import engines
engines.{cloud} = Path({folder!r})
sys.argv = ["entrypoint.py", {command!r}]
runpy.run_path({root!r} + "/entrypoint.py", run_name="__main__")
"""
"""The job, with a folder of the test where a cloud makes one at the root."""


def start(variables: dict[str, str], command: str, cloud: str, folder: Path) -> subprocess.Popen:
    """The job with the image's variables and a cloud's; `cloud` is the name of its folder in job.config.engines."""
    program = PROGRAM.format(root=str(ROOT), cloud=cloud, folder=str(folder), command=command)
    environment = PLAIN | {"HOME": str(folder.parent)} | variables
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], cwd=folder.parent, env=environment, **pipes)


@pytest.fixture
def sagemaker(tmp_path) -> Path:
    """What SageMaker makes for a training job with one channel, checkpoints and our variables as hyperparameters."""
    root = tmp_path / "ml"
    for folder in ("input/config", "input/data/training", "model", "output/data", "checkpoints"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "job/demo/appointments.xlsx", root / "input/data/training/mine.xlsx")
    resources = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    (root / "input/config/resourceconfig.json").write_text(json.dumps(resources))
    wrapped = {name.lower(): json.dumps(value) for name, value in SHORT.items()}
    (root / "input/config/hyperparameters.json").write_text(json.dumps(wrapped))
    return root


def start_on_sagemaker(root: Path, command: str = "train") -> subprocess.Popen:
    return start({"TRAINING_JOB_NAME": "mine", "AWS_REGION": "eu-west-1"}, command, "SAGEMAKER", root)


@pytest.mark.parametrize(("command", "is_evaluated"), [("train", False), ("run", True)])
def test_sagemaker_gets_the_adapter_where_it_collects_models(sagemaker, command, is_evaluated):
    """`train` is what SageMaker passes where nothing else is asked for."""
    job = start_on_sagemaker(sagemaker, command)
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert (sagemaker / "model" / "adapter_model.safetensors").exists()
    (run,) = (sagemaker / "checkpoints").iterdir()
    assert (run / "evaluation.csv").exists() is is_evaluated
    assert list((sagemaker / "output" / "tensorboard").rglob("events.out.tfevents.*"))
    assert not (sagemaker / "output" / "failure").exists()


def test_a_spot_machine_that_sagemaker_takes_away_resumes_on_the_next(sagemaker):
    parameters = sagemaker / "input/config/hyperparameters.json"
    parameters.write_text(json.dumps(json.loads(parameters.read_text()) | {"max_steps": "60", "logging_steps": "1"}))
    job = start_on_sagemaker(sagemaker)
    assert any("loss" in line for line in job.stdout), "training did not begin"
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=120)
    assert job.returncode == 143
    assert "stopped by SIGTERM" in (sagemaker / "output" / "failure").read_text()
    (sealed,) = (sagemaker / "checkpoints").glob("*/checkpoints/checkpoint-*")
    again = start_on_sagemaker(sagemaker)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert f"resuming from {sealed}" in said


def test_sagemaker_is_told_of_a_wrong_hyperparameter(sagemaker):
    (sagemaker / "input/config/hyperparameters.json").write_text('{"epochs": "3"}')
    job = start_on_sagemaker(sagemaker)
    job.communicate(timeout=60)
    assert job.returncode == 78
    assert (sagemaker / "output" / "failure").read_text().startswith("EPOCHS in the hyperparameters: no such variable.")


def test_azure_ml_gets_its_outputs_and_gives_its_inputs(tmp_path):
    """As its agent mounts an input `train` and outputs `run` and `model`, on one machine with one process of a PyTorch job."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "10.0.0.4", "MASTER_PORT": "6105"}
    places = {"AZURE_ML_INPUT_train": str(ROOT / "job/demo/appointments.xlsx"), "AZURE_ML_OUTPUT_run": str(tmp_path / "wd/run"),
              "AZURE_ML_OUTPUT_model": str(tmp_path / "wd/model")}  # fmt: skip
    own = {"AZUREML_RUN_ID": "mine", "LOGS_DIR": str(tmp_path / "logs")}
    job = start(SHORT | ranks | places | own, "run", "SAGEMAKER", tmp_path / "none")
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert (tmp_path / "wd" / "model" / "adapter_model.safetensors").exists()
    assert len(list((tmp_path / "wd" / "run").glob("*/evaluation.csv"))) == 1


def test_the_job_for_azure_ml_names_only_variables_inputs_and_outputs_that_exist():
    job = yaml.safe_load((ROOT / "deploy" / "azureml.yaml").read_text())
    set_by_command = dict(re.findall(r"([A-Z_]+)=(\S+)", job["command"]))
    assert {*set_by_command, *job["environment_variables"]} <= set(KNOWN)
    named = set(re.findall(r"\{\{(\w+)\.(\w+)\}\}", " ".join(set_by_command.values())))
    assert named == {*(("inputs", name) for name in job["inputs"]), *(("outputs", name) for name in job["outputs"])}


def test_vertex_ai_finds_everything_in_its_buckets(tmp_path):
    """It mounts them below /gcs."""
    bucket = tmp_path / "gcs" / "mine"
    bucket.mkdir(parents=True)
    shutil.copy(ROOT / "job/demo/appointments.xlsx", bucket / "mine.xlsx")
    places = {"AIP_MODEL_DIR": "gs://mine/model/", "AIP_CHECKPOINT_DIR": "gs://mine/runs/", "AIP_TENSORBOARD_LOG_DIR": "gs://mine/logs/",
              "AIP_TRAINING_DATA_URI": "gs://mine/mine.xlsx", "CLOUD_ML_JOB_ID": "1"}  # fmt: skip
    cluster = {"cluster": {"workerpool0": ["cmle-0:2222"]}, "environment": "cloud", "task": {"type": "workerpool0", "index": 0}}
    job = start(SHORT | places | {"CLUSTER_SPEC": json.dumps(cluster)}, "run", "VERTEX", tmp_path / "gcs")
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert (bucket / "model" / "adapter_model.safetensors").exists()
    assert len(list((bucket / "runs").glob("*/evaluation.csv"))) == 1
    assert len(list((bucket / "logs").rglob("events.out.tfevents.*"))) > 0
