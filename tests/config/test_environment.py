"""Variables: what is accepted, and how each mistake is answered."""

import os
import sys
from pathlib import Path

import pytest

from job.config import environment
from job.config.environment import PATTERNS_IN_WORDS, STRICT, read_settings
from job.config.settings import Settings
from job.errors import SettingsError
from job.system.launcher import launch
from tests.config.refusals import message


def test_a_misspelt_variable_in_the_process_environment_is_an_error(monkeypatch):
    assert message(monkeypatch, LEARNIG_RATE="1") == "LEARNIG_RATE: no such variable. Did you mean LEARNING_RATE?"


@pytest.mark.parametrize(
    ("theirs", "ours"), [("EPOCHS", "NUM_TRAIN_EPOCHS"), ("BATCH_SIZE", "EFFECTIVE_BATCH_SIZE"), ("LR", "LEARNING_RATE")]
)
def test_the_names_of_other_tools_are_answered_with_ours(monkeypatch, theirs, ours):
    assert message(monkeypatch, **{theirs: "3"}) == f"{theirs}: no such variable. Did you mean {ours}?"


def test_an_unknown_variable_in_dotenv_is_an_error_whatever_it_is():
    Path(".env").write_text("COLOUR=blue\n")
    with pytest.raises(SettingsError, match=r"COLOUR in .env: no such variable. env.example lists all of them."):
        read_settings()


def test_a_dotenv_that_another_user_owns_is_told(monkeypatch):
    def refuse(path: Path) -> dict:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(environment, "dotenv_values", refuse)
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: Permission denied\. Make it readable for this user"):
        read_settings()


def test_what_dotenv_sets_for_other_programs_reaches_them_as_it_does_in_a_container(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://mine:1")
    monkeypatch.setenv("HF_ENDPOINT", "to be removed when the test ends")
    monkeypatch.delenv("HF_ENDPOINT")
    Path(".env").write_text("HF_ENDPOINT=https://mirror\nHTTPS_PROXY=http://other:2\nIMAGE=mine\nHF_TOKEN=hf_a\n")
    read_settings()
    given = {name: os.environ.get(name) for name in ("HF_ENDPOINT", "HTTPS_PROXY", "IMAGE", "HF_TOKEN")}
    assert given == {"HF_ENDPOINT": "https://mirror", "HTTPS_PROXY": "http://mine:1", "IMAGE": None, "HF_TOKEN": None}


@pytest.fixture
def compose_container(monkeypatch, tmp_path) -> None:
    """The process environment of a container that docker-compose.yml started, of an image that sets names of its own."""
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setattr(environment, "IMAGE_VARIABLES", tmp_path / "image-variables")
    (tmp_path / "image-variables").write_text("PATH\nNV_CUDA_CUDART_VERSION\nMODEL_NAME\nOUTPUT_DIR\nPYTEST_CURRENT_TEST\n")
    container = {"PATH": "/bin", "HOSTNAME": "3f", "HOME": "/tmp", "TERM": "xterm", "NV_CUDA_CUDART_VERSION": "12", STRICT: "1"}
    for name, value in (container | {"OUTPUT_DIR": "/output", "MODEL_NAME": "of the company's base image"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("compose_container")
def test_in_composes_container_what_image_engine_and_libraries_set_is_accepted(monkeypatch):
    for name in ("COMPOSE_PROJECT_NAME", "https_proxy", "HF_HUB_OFFLINE", "NVIDIA_CTK_LIBCUDA_DIR", "LEARNING_RATE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MAX_LENGTH", "")
    assert read_settings().learning_rate == 1


@pytest.mark.usefixtures("compose_container")
@pytest.mark.parametrize("name", ["COLOUR", "R", "MY_OWN", "DATA_DIR", "SM_MODEL_DIR", "WARMUP_RATIO"])
def test_in_composes_container_every_other_name_is_an_error_that_names_dotenv(monkeypatch, name):
    assert message(monkeypatch, **{name: "x"}).startswith(f"{name} in .env or given with -e: no such variable. ")


@pytest.mark.usefixtures("compose_container")
def test_in_composes_container_a_process_for_each_gpu_accepts_what_the_first_process_tells_it(monkeypatch, tmp_path):
    """Each reads its settings as `launch` starts it, and leaves a file where it can."""
    monkeypatch.delenv("MODEL_NAME")  # what the image sets is known in this process alone
    (tmp_path / "read.py").write_text(
        "import os, pathlib\nfrom job.config.environment import read_settings\n"
        "read_settings()\npathlib.Path(os.environ['RANK']).touch()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(environment.__file__).parents[2]))
    launch([sys.executable, "read.py"], 2, grace_s=1)
    assert {"0", "1"} <= {path.name for path in Path().iterdir()}


@pytest.mark.usefixtures("compose_container")
def test_a_persons_own_variable_needs_the_strict_check_off(monkeypatch):
    monkeypatch.setenv("MY_OWN", "for a METRIC function")
    monkeypatch.setenv(STRICT, "")
    read_settings()


def test_the_address_of_a_kubernetes_service_named_tensorboard_is_no_port(monkeypatch):
    monkeypatch.setenv("TENSORBOARD_PORT", "tcp://10.0.0.1:6006")
    assert read_settings().tensorboard_port == 6006
    assert message(monkeypatch, TENSORBOARD_PORT="0").startswith('TENSORBOARD_PORT="0": expected greater than or equal to 1.')
    assert message(monkeypatch, TENSORBOARD_PORT="here").startswith('TENSORBOARD_PORT="here": expected a valid integer')


def test_dotenv_is_read_and_the_process_environment_wins(monkeypatch):
    Path(".env").write_text("LORA_R=4\nSEED=7\n")
    monkeypatch.setenv("SEED", "8")
    assert (read_settings().lora_r, read_settings().seed) == (4, 8)


def test_an_empty_value_means_the_default(monkeypatch):
    Path(".env").write_text("LEARNING_RATE=\n")
    monkeypatch.setenv("LORA_R", "")
    assert (read_settings().learning_rate, read_settings().lora_r) == (1e-3, 16)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LEARNING_RATE", "fast", "a valid number"),
        ("LORA_R", "0", "greater than or equal to 1"),
        ("EVAL_FRACTION", "1", "less than 1"),
        ("OVERWRITE", "maybe", "a valid boolean"),
        ("TASK", "seq", "'auto', 'seq2seq' or 'causal'"),
        ("MAX_SOURCE_LENGTH", "p101", 'a percentile like "p85"'),
        ("MAX_TARGET_LENGTH", "-3", "a number of tokens"),
        ("RUN_NAME", "../elsewhere", "letters, digits"),
        ("METRIC", "score.py", "path/to/file.py:function"),
        ("PLAN_SOURCE_LENGTHS", "150", "median/95th percentile/longest"),
        ("NPROC_PER_NODE", "two", "auto or a number"),
    ],
)
def test_an_ill_typed_value_is_answered_with_what_was_expected(monkeypatch, name, value, expected):
    said = message(monkeypatch, **{name: value})
    assert said.startswith(f'{name}="{value}": expected ')
    assert expected in said
    assert "\n" not in said


def test_no_person_reads_a_regular_expression():
    schema = Settings.model_json_schema()["properties"]
    with_pattern = {name.upper() for name, field in schema.items() if "'pattern':" in str(field)}
    assert len(with_pattern) == 6
    assert with_pattern == PATTERNS_IN_WORDS.keys()


def test_a_secret_is_never_in_a_message(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    settings = read_settings()
    assert "topsecret" not in repr(settings)
    assert "topsecret" not in message(monkeypatch, LORA_R="x", HF_TOKEN_FILE="/nowhere", SEED="y")


def test_the_token_can_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("hf_abc\n")
    monkeypatch.setenv("HF_TOKEN_FILE", str(tmp_path / "token"))
    assert read_settings().hf_token.get_secret_value() == "hf_abc"


def test_a_token_file_that_is_missing_or_empty_is_told(monkeypatch, tmp_path):
    assert "No such file" in message(monkeypatch, HF_TOKEN_FILE=str(tmp_path / "none"))
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in message(monkeypatch, HF_TOKEN_FILE=str(tmp_path / "empty"))
