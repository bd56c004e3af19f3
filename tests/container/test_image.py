"""The image: what is in it, what is not, and what any user can do with it."""

import json
import subprocess
import time

import pytest

import job
from tests.container.clones import docker, said

FEW_STEPS = ("--env", "MAX_STEPS=3", "--env", "EVAL_MAX_ROWS=4")


def inside(image: str, *program: str) -> str:
    """What a program in the image prints; it must succeed."""
    result = docker("run", "--rm", "--entrypoint", program[0], image, *program[1:])
    assert result.returncode == 0, said(result)
    return result.stdout


def test_the_user_is_not_root_and_the_entrypoint_needs_no_shell(image):
    config = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "/app/entrypoint.py"]
    assert inside(image, "id", "-u").strip() == "10001"


def test_a_plain_build_bears_the_version_of_the_code_in_it(image):
    labels = json.loads(docker("image", "inspect", image).stdout)[0]["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == job.__version__
    assert inside(image, "env", "PYTHONPATH=/app", "python", "-c", "import job; print(job.__version__)").strip() == job.__version__


def test_the_installed_packages_agree(image):
    assert inside(image, "python", "-m", "pip", "check").strip() == "No broken requirements found."


def test_torch_has_kernels_from_the_v100_to_the_newest_cards(image):
    listed = inside(image, "python", "-c", "import torch; print(*torch._C._cuda_getArchFlags().split())").split()
    assert {"sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_120"} <= set(listed)


def test_the_job_can_write_to_its_folders_only(image):
    writable = docker("run", "--rm", "--entrypoint", "find", image, "/", "-xdev", "-writable", "-not", "-type", "l").stdout.split()
    assert set(writable) - {"/tmp", "/var/tmp", "/run/lock"} == {"/data", "/output", "/logs", "/cache"}


def test_there_is_no_compiler_no_apt_list_and_no_pip_cache(image):
    left = "ls /var/lib/apt/lists /root/.cache 2>/dev/null; command -v gcc cc clang nvcc; true"
    assert docker("run", "--rm", "--user", "0", "--entrypoint", "sh", image, "-c", left).stdout == "/var/lib/apt/lists:\n"


def test_no_secret_is_in_history_environment_or_files(image):
    history = docker("history", "--no-trunc", image).stdout
    config = docker("image", "inspect", image).stdout
    assert not [word for word in ("hf_must_not", "PIP_INDEX_URL", "pip_cert", "HF_TOKEN") if word in history + config]
    places = ("/app", "/data", "/output", "/etc", "/tmp")
    assert docker("run", "--rm", "--user", "0", "--entrypoint", "grep", image, "-rl", "hf_must_not", *places).stdout == ""


def test_its_size_is_what_the_readme_says(image):
    size_gb = json.loads(docker("image", "inspect", image).stdout)[0]["Size"] / 1e9
    assert 7.5 < size_gb < 9.0


@pytest.mark.parametrize("uid", ["10001", "12345"])
def test_the_default_runs_without_network_on_a_read_only_root_as_any_user(image, uid):
    volumes = ("--read-only", "--tmpfs", "/tmp", "--volume", "/output", "--volume", "/logs", "--volume", "/cache")
    result = docker("run", "--rm", "--network", "none", "--user", uid, *volumes, *FEW_STEPS, image)
    assert result.returncode == 0, said(result)
    assert " on 4 rows: " in result.stderr


def test_an_output_folder_of_another_user_is_73_and_the_chown_line(image, tmp_path):
    tmp_path.chmod(0o755)
    result = docker("run", "--rm", "--volume", f"{tmp_path}:/output", image)
    assert result.returncode == 73
    assert "On the host run `sudo chown -R 10001:10001 ./output`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_docker_stop_reaches_python_at_once_as_process_1(image):
    container = docker("run", "--detach", "--env", "NUM_TRAIN_EPOCHS=500", image).stdout.strip()
    try:
        with subprocess.Popen(["docker", "logs", "--follow", container], stderr=subprocess.PIPE, text=True) as logs:
            assert any("loss" in line for line in logs.stderr), "training did not begin"
            started = time.monotonic()
            docker("stop", "--time", "60", container)
            took_s = time.monotonic() - started
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "143"
        assert took_s < 10
        assert "stopped by SIGTERM" in docker("logs", container).stderr
    finally:
        docker("rm", "--force", container)
