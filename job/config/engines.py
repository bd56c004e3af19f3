"""What the engines that start a training container tell it by their own variables and folders, as variables of ours.

Kubeflow and torchrun (PET_*), SageMaker (/opt/ml, SM_CHANNEL_*), Vertex AI (AIP_*, CLUSTER_SPEC), Azure ML (AZURE_ML_INPUT_*), and
those that count machines in RANK. A variable of ours that a person set wins over all of it.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

SAGEMAKER, VERTEX = Path("/opt/ml"), Path("/gcs")
SAGEMAKER_GRACE_S, MASTER_PORT = 120, 29500
"""Seconds between its SIGTERM and its SIGKILL; the port that torchrun takes too."""
SAGEMAKERS_OWN = ("sagemaker_", "_tuning_")
"""Beginnings of hyperparameters that its own tools add."""
CHANNELS = {
    "TRAIN_DATA": ("train", "training", "train_data", "training_data"),
    "EVAL_DATA": ("validation", "eval", "test", "eval_data", "validation_data", "test_data"),
    "MODEL_ID": ("model", "base_model", "model_id"),
}
"""Our variable -> the names that the inputs of a training have on the clouds."""
OUTPUTS = {"OUTPUT_DIR": ("output", "outputs", "output_dir", "run"), "EXPORT_DIR": ("model", "adapter", "export_dir")}
OF_THE_IMAGE = {"OUTPUT_DIR": "/output", "LOGS_DIR": "/logs"}
"""What the image sets, so that nobody said it: an engine's folders count more."""
MAX_FAILURE = 1024
"""Characters that SageMaker shows of a failure."""


def engine_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Our variables as the engine that started this container means them; {} where a person did."""
    return {
        **_count_of_machines(environment),
        **_torchrun(environment),
        **_sagemaker(environment),
        **_vertex(environment),
        **_azure(environment),
    }


def leave_failure(message: str) -> None:
    """Writes why the job failed to where SageMaker shows it."""
    if _is_sagemaker(os.environ):
        with contextlib.suppress(OSError):
            (SAGEMAKER / "output" / "failure").write_text(message[:MAX_FAILURE])


def _count_of_machines(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK without LOCAL_RANK counts machines, not processes: Kubeflow's PyTorchJob, Alibaba's PAI."""
    if "LOCAL_RANK" in environment or not {"RANK", "WORLD_SIZE"} <= environment.keys():
        return {}
    return {"NODE_RANK": environment["RANK"], "NNODES": environment["WORLD_SIZE"]}


def _torchrun(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that torchrun reads, which Kubeflow Trainer sets; its `gpu` and `cpu` are our auto."""
    names = ("NNODES", "NODE_RANK", "NPROC_PER_NODE", "MASTER_ADDR", "MASTER_PORT")
    said = {name: environment[f"PET_{name}"] for name in names if environment.get(f"PET_{name}")}
    if said.get("NPROC_PER_NODE") in ("gpu", "cpu"):
        said["NPROC_PER_NODE"] = "auto"
    return said


def _is_sagemaker(environment: Mapping[str, str]) -> bool:
    return (SAGEMAKER / "input" / "config").is_dir() or any(name.startswith("SM_CHANNEL_") for name in environment)


def _sagemaker(environment: Mapping[str, str]) -> dict[str, str]:
    """Channels, folders, hyperparameters and machines; the folder of checkpoints, where there is one, is kept when a spot
    machine is taken away."""
    if not _is_sagemaker(environment):
        return {}
    data = SAGEMAKER / "input" / "data"
    channels = {path.name: str(path) for path in sorted(data.iterdir()) if path.is_dir()} if data.is_dir() else {}
    channels |= _named(environment, "SM_CHANNEL_")
    checkpoints, output = SAGEMAKER / "checkpoints", environment.get("SM_OUTPUT_DATA_DIR") or str(SAGEMAKER / "output" / "data")
    return {
        "OUTPUT_DIR": str(checkpoints) if checkpoints.is_dir() else output,
        "LOGS_DIR": str(SAGEMAKER / "output" / "tensorboard"),
        "EXPORT_DIR": environment.get("SM_MODEL_DIR") or str(SAGEMAKER / "model"),
        "GRACE_S": str(SAGEMAKER_GRACE_S),
        **_of_names(channels, CHANNELS),
        **_machines_of_sagemaker(),
        **_hyperparameters(),
    }


def _machines_of_sagemaker() -> dict[str, str]:
    cluster = _read_json(SAGEMAKER / "input" / "config" / "resourceconfig.json")
    return _among(sorted(cluster.get("hosts", [])), cluster.get("current_host"))


def _hyperparameters() -> dict[str, str]:
    """Texts, which SageMaker's Python library wraps in JSON once more."""
    given = _read_json(SAGEMAKER / "input" / "config" / "hyperparameters.json")
    return {name.upper(): _unwrapped(value) for name, value in given.items() if not name.startswith(SAGEMAKERS_OWN)}


def _unwrapped(value: str) -> str:
    return str(json.loads(value)) if re.fullmatch(r'".*"', value) else value


def _vertex(environment: Mapping[str, str]) -> dict[str, str]:
    """Vertex AI names places in buckets, and mounts every bucket below one folder."""
    names = {
        "TRAIN_DATA": "AIP_TRAINING_DATA_URI", "EVAL_DATA": "AIP_VALIDATION_DATA_URI", "OUTPUT_DIR": "AIP_CHECKPOINT_DIR",
        "LOGS_DIR": "AIP_TENSORBOARD_LOG_DIR", "EXPORT_DIR": "AIP_MODEL_DIR",
    }  # fmt: skip
    places = {ours: environment[theirs] for ours, theirs in names.items() if environment.get(theirs)}
    said = {name: re.sub(r"^gs://", f"{VERTEX}/", place).rstrip("/") for name, place in places.items()}
    return said | (_machines_of_vertex(environment["CLUSTER_SPEC"]) if "CLUSTER_SPEC" in environment and said else {})


def _machines_of_vertex(specification: str) -> dict[str, str]:
    """Pools of machines, which are numbered pool by pool."""
    said = json.loads(specification)
    hosts = {(pool, number): host for pool in sorted(said["cluster"]) for number, host in enumerate(said["cluster"][pool])}
    here = hosts[said["task"]["type"], int(said["task"]["index"])]
    return _among([host.partition(":")[0] for host in hosts.values()], here.partition(":")[0])


def _azure(environment: Mapping[str, str]) -> dict[str, str]:
    """Azure ML names the folders of a job's inputs and outputs; ranks it gives to each process itself."""
    return {
        **_of_names(_named(environment, "AZURE_ML_INPUT_"), CHANNELS),
        **_of_names(_named(environment, "AZURE_ML_OUTPUT_"), OUTPUTS),
    }


def _named(environment: Mapping[str, str], beginning: str) -> dict[str, str]:
    """The values of variables with that beginning, by the rest of their names in small letters."""
    return {name.removeprefix(beginning).lower(): value for name, value in environment.items() if name.startswith(beginning)}


def _of_names(found: Mapping[str, str], names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Our variable -> the first of its other names that was found."""
    chosen = {ours: [found[name] for name in theirs if name in found] for ours, theirs in names.items()}
    return {ours: places[0] for ours, places in chosen.items() if places}


def _among(hosts: list[str], here: str | None) -> dict[str, str]:
    """Which machine this is of these, and where the first is; {} where there is but one."""
    if len(hosts) < 2 or here not in hosts:
        return {}
    machines = {"NNODES": str(len(hosts)), "NODE_RANK": str(hosts.index(here))}
    return machines | {"MASTER_ADDR": hosts[0], "MASTER_PORT": str(MASTER_PORT)}


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}
