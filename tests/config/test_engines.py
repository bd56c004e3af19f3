"""What engines tell the containers that they start, as the documents of each say it, is what a person would have set."""

import json
import re
from pathlib import Path

import pytest

from job.config import engines
from job.config.engines import engine_variables
from job.config.environment import read_settings
from job.errors import SettingsError

ROOT = Path(__file__).parents[2]
CLUSTER = {"workerpool0": ["cmle-0:2222"], "workerpool1": ["cmle-1:2222", "cmle-2:2222"]}


@pytest.fixture
def sagemaker(monkeypatch, tmp_path) -> Path:
    """/opt/ml as SageMaker makes it for one machine with one channel."""
    root = tmp_path / "opt-ml"
    for folder in ("input/config", "input/data/training", "model", "output/data"):
        (root / folder).mkdir(parents=True)
    resources = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    (root / "input/config/resourceconfig.json").write_text(json.dumps(resources))
    (root / "input/config/hyperparameters.json").write_text("{}")
    monkeypatch.setattr(engines, "SAGEMAKER", root)
    return root


def as_engine(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_on_an_ordinary_machine_no_engine_says_anything():
    assert engine_variables({"PATH": "/bin", "HOME": "/root", "LANG": "C", "AZUREML_RUN_ID": "x"}) == {}


def test_kubeflows_variables_say_which_machine_this_is(monkeypatch):
    as_engine(monkeypatch, PET_NNODES="2", PET_NODE_RANK="1", PET_NPROC_PER_NODE="gpu")
    as_engine(monkeypatch, PET_MASTER_ADDR="mine-node-0-0.mine", PET_MASTER_PORT="29400")
    settings = read_settings()
    assert (settings.nnodes, settings.node_rank, settings.nproc_per_node) == (2, 1, "auto")
    assert (settings.master_addr, settings.master_port) == ("mine-node-0-0.mine", 29400)


def test_a_rank_without_a_local_one_counts_machines(monkeypatch):
    as_engine(monkeypatch, RANK="1", WORLD_SIZE="3", MASTER_ADDR="mine-master-0")
    assert (read_settings().nnodes, read_settings().node_rank) == (3, 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert (read_settings().nnodes, read_settings().node_rank) == (1, 0)


def test_sagemakers_folders_are_taken(sagemaker):
    settings = read_settings_for_a_model()
    assert settings.train_data == str(sagemaker / "input/data/training")
    assert settings.eval_data is None
    assert (settings.output_dir, settings.export_dir) == (sagemaker / "output/data", sagemaker / "model")
    assert settings.logs_dir == sagemaker / "output/tensorboard"
    assert settings.grace_s == 120, "SageMaker kills two minutes after its SIGTERM"
    assert (settings.nnodes, settings.node_rank) == (1, 0)


def read_settings_for_a_model():
    (engines.SAGEMAKER / "input/config/hyperparameters.json").write_text('{"MODEL_ID": "google/flan-t5-base"}')
    return read_settings()


def test_with_checkpoints_kept_by_sagemaker_the_run_is_there(sagemaker):
    (sagemaker / "checkpoints").mkdir()
    assert read_settings_for_a_model().output_dir == sagemaker / "checkpoints"


def test_sagemakers_toolkit_names_channels_by_variables(monkeypatch):
    as_engine(
        monkeypatch, SM_CHANNEL_TRAIN="/d/train", SM_CHANNEL_VALIDATION="/d/val", SM_CHANNEL_MODEL="/d/model", SM_MODEL_DIR="/m"
    )
    settings = read_settings()
    assert (settings.train_data, settings.eval_data, settings.model_id) == ("/d/train", "/d/val", "/d/model")
    assert settings.export_dir == Path("/m")


def test_hyperparameters_are_our_variables_in_any_case_plain_or_wrapped(sagemaker):
    given = {"MODEL_ID": '"google/flan-t5-base"', "lora_r": "8", "sagemaker_region": '"eu-west-1"', "_tuning_objective_metric": "x"}
    (sagemaker / "input/config/hyperparameters.json").write_text(json.dumps(given))
    assert (read_settings().model_id, read_settings().lora_r) == ("google/flan-t5-base", 8)


def test_a_hyperparameter_that_does_not_exist_is_told(sagemaker):
    (sagemaker / "input/config/hyperparameters.json").write_text('{"learning_rat": "1"}')
    with pytest.raises(SettingsError, match=r"^LEARNING_RAT in the hyperparameters: no such variable. Did you mean LEARNING_RATE"):
        read_settings()


def test_the_second_of_sagemakers_machines_knows_the_first(sagemaker):
    resources = {"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]}
    (sagemaker / "input/config/resourceconfig.json").write_text(json.dumps(resources))
    settings = read_settings_for_a_model()
    assert (settings.nnodes, settings.node_rank, settings.master_addr, settings.master_port) == (2, 1, "algo-1", 29500)


def test_sagemaker_shows_why_a_job_failed(sagemaker, run_job):
    code, said = run_job(MODEL_ID="./nowhere")
    assert code == 66
    assert (sagemaker / "output/failure").read_text() == said.splitlines()[-1]


def test_vertex_ais_buckets_are_folders(monkeypatch):
    as_engine(monkeypatch, AIP_MODEL_DIR="gs://b/run/model/", AIP_CHECKPOINT_DIR="gs://b/run/checkpoints/")
    as_engine(monkeypatch, AIP_TENSORBOARD_LOG_DIR="gs://b/run/logs", AIP_TRAINING_DATA_URI="gs://b/data/*.csv", MODEL_ID="a/b")
    settings = read_settings()
    assert (settings.export_dir, settings.output_dir) == (Path("/gcs/b/run/model"), Path("/gcs/b/run/checkpoints"))
    assert (settings.logs_dir, settings.train_data) == (Path("/gcs/b/run/logs"), "/gcs/b/data/*.csv")


@pytest.mark.parametrize(("pool", "index", "rank"), [("workerpool0", 0, 0), ("workerpool1", 0, 1), ("workerpool1", 1, 2)])
def test_vertex_ais_pools_are_numbered_one_after_another(pool, index, rank):
    specification = json.dumps({"cluster": CLUSTER, "environment": "cloud", "task": {"type": pool, "index": index}})
    said = engine_variables({"CLUSTER_SPEC": specification, "AIP_MODEL_DIR": "gs://b/m"})
    assert (said["NODE_RANK"], said["NNODES"], said["MASTER_ADDR"]) == (str(rank), "3", "cmle-0")


def test_a_single_machine_of_vertex_ai_is_the_only_one():
    specification = json.dumps({"cluster": {"workerpool0": ["a:2222"]}, "task": {"type": "workerpool0", "index": 0}})
    assert "NNODES" not in engine_variables({"CLUSTER_SPEC": specification, "AIP_MODEL_DIR": "gs://b/m"})


def test_azure_mls_inputs_and_outputs_are_taken_by_their_names(monkeypatch):
    as_engine(monkeypatch, AZURE_ML_INPUT_train="/in/a", AZURE_ML_INPUT_model="/in/m", AZURE_ML_OUTPUT_run="/out/r")
    settings = read_settings()
    assert (settings.train_data, settings.model_id, settings.output_dir) == ("/in/a", "/in/m", Path("/out/r"))


def test_what_a_person_sets_wins_over_the_engine(monkeypatch, sagemaker):
    as_engine(monkeypatch, MODEL_ID="a/b", TRAIN_DATA="mine.csv", GRACE_S="7")
    Path(".env").write_text("EXPORT_DIR=here\n")
    settings = read_settings()
    assert (settings.train_data, settings.grace_s, settings.export_dir) == ("mine.csv", 7, Path("here"))


def test_the_folders_of_the_image_itself_give_way_to_the_engines(monkeypatch, sagemaker):
    of_image = dict(re.findall(r"(OUTPUT_DIR|LOGS_DIR)=(\S+)", (ROOT / "Dockerfile").read_text()))
    assert of_image == engines.OF_THE_IMAGE
    as_engine(monkeypatch, **of_image)
    settings = read_settings_for_a_model()
    assert (settings.output_dir, settings.logs_dir) == (sagemaker / "output/data", sagemaker / "output/tensorboard")
    monkeypatch.setenv("OUTPUT_DIR", "/mine")
    assert read_settings().output_dir == Path("/mine")


def test_a_machine_that_is_none_of_them_is_told(run_job):
    code, said = run_job("doctor", NODE_RANK=2, NNODES=2, MASTER_ADDR="first")
    assert (code, "NODE_RANK=2 of NNODES=2 machines. Count machines from 0 on" in said) == (78, True)
    code, said = run_job("doctor", NNODES=2)
    assert (code, "NNODES=2 needs MASTER_ADDR" in said) == (78, True)
