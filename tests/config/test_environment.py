"""Variables: what is accepted, and how each mistake is answered."""

from pathlib import Path

import pytest

from job.config.environment import KNOWN, nearest_name, read_settings
from job.errors import SettingsError


def message(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The error that these variables in the process environment give."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    return str(raised.value)


def test_a_misspelt_variable_in_the_process_environment_is_an_error(monkeypatch):
    assert message(monkeypatch, LEARNIG_RATE="1") == "LEARNIG_RATE: no such variable. Did you mean LEARNING_RATE?"


def test_every_variable_with_one_letter_missing_is_found_out():
    for name in KNOWN:
        for place in range(len(name)) if len(name) > 6 else ():
            misspelt = name[:place] + name[place + 1 :]
            assert misspelt in KNOWN or nearest_name(misspelt, strict=True) is not None, misspelt


def test_ordinary_variables_of_a_machine_are_no_mistakes():
    ordinary = [
        "PATH",
        "HOME",
        "USER",
        "SHELL",
        "LANG",
        "LC_ALL",
        "TERM",
        "PWD",
        "HOSTNAME",
        "LOGNAME",
        "MAIL",
        "TZ",
        "EDITOR",
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "DISPLAY",
        "SHLVL",
        "LS_COLORS",
        "XDG_RUNTIME_DIR",
        "SSH_CONNECTION",
        "NVIDIA_VISIBLE_DEVICES",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_HOME",
        "HF_HUB_OFFLINE",
        "HF_ENDPOINT",
        "HF_DATASETS_CACHE",
        "TRANSFORMERS_CACHE",
        "OMP_NUM_THREADS",
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_PORT",
        "PIP_CERT",
        "PIP_INDEX_URL",
        "SSL_CERT_FILE",
        "CI",
        "DEBIAN_FRONTEND",
        "OLDPWD",
        "TMPDIR",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "GPG_KEY",
        "PYTHON_VERSION",
        "JOB_NAME",
        "TASK_NAME",
        "INPUT_DIR",
        "DATA_DIR",
        "NO_PROXY",
        "HTTPS_PROXY",
        "WANDB_API_KEY",
        "MASTER_ADDR",
        "MASTER_PORT",
        "WORLD_SIZE",
        "RANK",
        "LOCAL_RANK",
        "LIBRARY_PATH",
        "LD_LIBRARY_PATH",
        "COLUMNS",
        "LINES",
    ]
    assert {name: nearest_name(name, strict=False) for name in ordinary} == dict.fromkeys(ordinary)


@pytest.mark.parametrize(
    ("theirs", "ours"), [("EPOCHS", "NUM_TRAIN_EPOCHS"), ("BATCH_SIZE", "EFFECTIVE_BATCH_SIZE"), ("LR", "LEARNING_RATE")]
)
def test_the_names_of_other_tools_are_answered_with_ours(monkeypatch, theirs, ours):
    assert message(monkeypatch, **{theirs: "3"}) == f"{theirs}: no such variable. Did you mean {ours}?"


def test_an_unknown_variable_in_dotenv_is_an_error_whatever_it_is():
    Path(".env").write_text("COLOUR=blue\n")
    with pytest.raises(SettingsError, match=r"COLOUR in .env: no such variable. env.example lists all of them."):
        read_settings()


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
        ("LORA_R", "0", "greater than 0"),
        ("EVAL_FRACTION", "1", "less than 1"),
        ("OVERWRITE", "maybe", "a valid boolean"),
        ("TASK", "seq", "'auto', 'seq2seq' or 'causal'"),
        ("MAX_SOURCE_LENGTH", "p101", 'a percentile like "p85"'),
        ("MAX_TARGET_LENGTH", "-3", "a number of tokens"),
        ("RUN_NAME", "../elsewhere", "letters, digits"),
        ("METRIC", "score.py", "path/to/file.py:function"),
    ],
)
def test_an_ill_typed_value_is_answered_with_what_was_expected(monkeypatch, name, value, expected):
    said = message(monkeypatch, **{name: value})
    assert said.startswith(f'{name}="{value}": expected ')
    assert expected in said
    assert "\n" not in said


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
