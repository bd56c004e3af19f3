"""`.env` beside the compose file: what stands in it is checked as strictly in the container as outside, and reaches the job."""

import re
import subprocess

import pytest

from tests.container.clones import ENVIRONMENT, ROOT, Clone, docker, said

WRONG = ("MICRO_BATCH_SIZE", "RANK", "TEMPLATE", "COLOUR")
"""Of another tool, of a launcher, short, of nobody; tests/config has all that are known."""
SHOW = (
    "from job.config.environment import read_settings; s = read_settings(); import os; "
    "print(s.lora_r, s.lora_alpha, s.seed, s.tensorboard_port, os.environ.get('HF_ENDPOINT'), s.hf_token)"
)


@pytest.fixture
def clone(make_clone) -> Clone:
    return make_clone(1000)


def show(clone: Clone, *options: str) -> str:
    """What a job that `docker compose run` starts with these options reads: rank, alpha, seed, port, HF_ENDPOINT, token."""
    result = clone.compose("run", "--rm", "-e", "PYTHONPATH=/app", *options, "--entrypoint", "python", "job", "-c", SHOW)
    assert result.returncode == 0, said(result)
    return result.stdout.strip()


def told(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the job, which begin with the time."""
    return re.findall(r"^\d\d:\d\d:\d\d .*$", said(result), re.MULTILINE)


def test_a_wrong_name_is_78_and_one_line_that_names_the_file(clone):
    for name in WRONG:
        result = clone.run_dotenv(f"{name}=1\n")
        assert result.returncode == 78, (name, said(result))
        assert len(told(result)) == 1, said(result)
        assert f" {name} in .env or given with -e: no such variable. " in told(result)[0]
    assert not list((clone.folder / "output").glob("[!.]*")), "nothing was begun"


def test_run_checks_as_up_does_and_what_is_given_with_e_too(clone):
    (clone.folder / ".env").write_text("GRADIENT_ACCUMULATION_STEPS=4\n")
    result = clone.compose("run", "--rm", "job", "plan")
    assert result.returncode == 78, said(result)
    assert told(result)[0].endswith("no such variable. Set EFFECTIVE_BATCH_SIZE: accumulation follows from it.")
    (clone.folder / ".env").unlink()
    given = clone.compose("run", "--rm", "-e", "LOAD_IN_4BIT=true", "job", "plan")
    assert (given.returncode, "LOAD_IN_4BIT in .env or given with -e" in said(given)) == (78, True), said(given)


def test_the_same_line_outside_is_refused_in_the_same_words(clone):
    program = [ROOT / ".venv/bin/python", ROOT / "entrypoint.py"]
    for name in WRONG:
        (clone.folder / ".env").write_text(f"{name}=1\n")
        result = subprocess.run(program, cwd=clone.folder, env=ENVIRONMENT, text=True, capture_output=True, check=False)
        assert result.returncode == 78
        assert f" {name} in .env: no such variable. " in result.stderr


def test_without_a_file_the_defaults_hold_and_none_is_made(clone):
    assert show(clone) == "16 32 42 6006 None None"
    assert not (clone.folder / ".env").exists()


def test_values_arrive_and_what_is_given_with_e_wins(clone):
    (clone.folder / ".env").write_text("LORA_R=4\nLORA_ALPHA=8\nSEED=\nHF_ENDPOINT=https://mirror\nTENSORBOARD_PORT=7007\n")
    assert show(clone, "-e", "LORA_ALPHA=12") == "4 12 42 7007 https://mirror None"


def test_a_private_file_works_and_no_token_of_it_is_shown(clone):
    (clone.folder / ".env").write_text("HF_TOKEN=hf_topsecret\nLORA_R=2\n")
    (clone.folder / ".env").chmod(0o600)
    assert show(clone).split()[0] == "2"
    result = clone.run_dotenv("HF_TOKEN=hf_topsecret\nMAX_LENGTH=9\n")
    assert result.returncode == 78
    assert "hf_topsecret" not in said(result)


def test_everything_that_the_compose_file_reads_from_the_file_is_accepted(clone):
    read = set(re.findall(r"\$\{(\w+)", (clone.folder / "docker-compose.yml").read_text()))
    read |= set(re.search(r"args: \[(.*)\]", (clone.folder / "docker-compose.yml").read_text())[1].split(", "))
    assert {"IMAGE", "BASE_IMAGE", "HTTPS_PROXY", "TENSORBOARD_PORT"} <= read
    values = dict.fromkeys(read, "x") | {
        "TENSORBOARD_PORT": "7007",
        "SERVE_PORT": "8008",
        "HF_TOKEN_FILE": "./token",
        "PIP_CERT": "./token",
    }
    values["IMAGE"] = ENVIRONMENT["IMAGE"]
    (clone.folder / "token").write_text("hf_a\n")
    (clone.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()) + "COMPOSE_PROFILES=x\n")
    assert show(clone) == "16 32 42 7007 None **********"


def test_a_persons_own_variable_passes_where_the_check_is_switched_off(clone):
    assert show(clone, "-e", "LORA_JOB_STRICT=", "-e", "MY_OWN=1") == "16 32 42 6006 None None"


def test_docker_run_keeps_the_check_of_near_misses_and_of_other_tools_names(image):
    for name in ("LEARNIG_RATE", "MICRO_BATCH_SIZE", "FP16"):
        result = docker("run", "--rm", "--env", f"{name}=1", image, "plan")
        assert (result.returncode, f"{name}: no such variable" in result.stderr) == (78, True), said(result)
    machine = ("RANK=0", "SM_OUTPUT_DIR=/x", "TENSORBOARD_PORT=tcp://10.0.0.1:6006", "DATA_DIR=/x")
    accepted = docker("run", "--rm", *(part for variable in machine for part in ("--env", variable)), image, "plan")
    assert accepted.returncode == 0, said(accepted)


def test_the_image_knows_the_names_that_it_sets(image):
    listed = docker("run", "--rm", "--entrypoint", "cat", image, "/app/image-variables").stdout.split()
    config = docker("image", "inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", image).stdout
    assert set(listed) >= {line.partition("=")[0] for line in config.split("\n") if line}
