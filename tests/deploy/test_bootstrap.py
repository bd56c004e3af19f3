"""deploy/vm/bootstrap.sh on machines that are made up: every program that it calls is a stand-in that writes down its arguments."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import ERRORS

ROOT = Path(__file__).parents[2]
VM = ROOT / "deploy" / "vm"
V100, T4 = "1db4", "1eb8"
PROGRAMS = ("apt-get", "ubuntu-drivers", "modprobe", "systemctl", "curl", "gpg", "env")
READY = {
    "nvidia-smi": "echo 580.95.05",
    "docker": 'case $1 in compose) echo 2.24.6 ;; version) echo 28.0.0 ;; info) echo \'{"nvidia":{},"runc":{}}\' ;; esac',
    "nvidia-ctk": "echo NVIDIA Container Toolkit CLI version 1.18.0",
}
KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
SHOW_KEY = "[ $1 != --show-keys ] || printf 'pub:-:4096:1:::::\\nfpr:::::::::{}:\\nsub:-:\\nfpr:::::::::{}:\\n'"
"""A key of this fingerprint, and a second one of its own, as gpg shows them."""
MISSING = {
    "nvidia-smi": "exit 127", "docker": "[ $1 = run ]", "nvidia-ctk": "[ $1 = runtime ]", "gpg": SHOW_KEY.format(KEY, "0" * 40),
}  # fmt: skip

Bootstrap = Callable[..., tuple[subprocess.CompletedProcess[str], str]]


@pytest.fixture
def bootstrap(tmp_path: Path) -> Bootstrap:
    """Runs the script on a machine with this GPU, system and these programs: its result, and the calls it made, a line each."""
    calls, etc, programs = tmp_path / "calls", tmp_path / "etc", tmp_path / "bin"
    for folder in (programs, etc / "apt" / "keyrings", etc / "apt" / "sources.list.d", etc / "systemd" / "system"):
        folder.mkdir(parents=True)

    def run(*options: str, gpu: str, machine: dict[str, str], system: str = "ubuntu 24.04", user: int = 0):
        calls.write_text("")
        (etc / "os-release").write_text("ID={}\nVERSION_ID={}\n".format(*system.split()))
        stand_ins = dict.fromkeys(PROGRAMS, "true") | machine
        stand_ins |= {"lspci": f"echo '00:05.0 0302: 10de:{gpu} (rev a1)'" if gpu else "true", "id": f"echo {user}"}
        for name, does in stand_ins.items():
            (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\n{does}\n')
            (programs / name).chmod(0o755)
        variables = {"PATH": f"{programs}:/usr/bin:/bin", "ETC": str(etc)}
        result = subprocess.run([VM / "bootstrap.sh", *options], env=variables, capture_output=True, text=True, check=False)
        return result, calls.read_text()

    return run


def test_a_fresh_v100_machine_gets_the_proprietary_modules_of_branch_580(bootstrap, tmp_path):
    result, calls = bootstrap(gpu=V100, machine=MISSING)
    assert result.returncode == 0, result.stderr
    assert "ubuntu-drivers install --gpgpu nvidia:580-server\n" in calls
    assert "install -y -q --no-install-recommends docker.io docker-compose-v2 docker-buildx" in calls
    assert "nvidia-ctk runtime configure --runtime=docker\nsystemctl restart docker\n" in calls.replace("docker info", "#")
    base = re.search(r"^ARG BASE_IMAGE=(\S+@sha256:[0-9a-f]{64})$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert calls.splitlines()[-1] == f"docker run --rm --gpus all {base} nvidia-smi -L"
    repository = (tmp_path / "etc/apt/sources.list.d/nvidia-container-toolkit.list").read_text()
    assert repository.startswith("deb [signed-by=")
    assert repository.endswith("/stable/deb/amd64 /\n")


def test_cards_from_turing_on_get_the_open_modules(bootstrap):
    assert "ubuntu-drivers install --gpgpu nvidia:580-server-open\n" in bootstrap(gpu=T4, machine=MISSING)[1]


def test_a_machine_that_is_ready_is_only_checked(bootstrap):
    result, calls = bootstrap(gpu=V100, machine=READY)
    assert result.returncode == 0, result.stderr
    changing = ("apt-get", "env ", "ubuntu-drivers", "modprobe", "curl", "nvidia-ctk runtime", "systemctl restart")
    assert not [program for program in changing if program in calls]
    assert "docker run --rm --gpus all" in calls


def test_a_toolkit_with_the_known_hole_is_replaced(bootstrap):
    old = READY | {"nvidia-ctk": "echo NVIDIA Container Toolkit CLI version 1.17.7"}
    assert "nvidia-container-toolkit" in bootstrap(gpu=T4, machine=old)[1]


@pytest.mark.parametrize("fingerprint", ["A" * 40, ""])
def test_a_key_that_is_not_nvidias_ends_it_before_a_package_is_installed(bootstrap, tmp_path, fingerprint):
    forged = MISSING | {"gpg": SHOW_KEY.format(fingerprint, KEY) if fingerprint else "true"}
    result, calls = bootstrap(gpu=T4, machine=forged)
    assert result.returncode == 1
    assert f"gpgkey is not NVIDIA's key {KEY} but {fingerprint or 'none'}" in result.stderr
    assert "install -y -q --no-install-recommends nvidia-container-toolkit" not in calls
    assert not (tmp_path / "etc/apt/sources.list.d/nvidia-container-toolkit.list").exists()


@pytest.mark.parametrize(("engine", "told"), [("27.5.1", True), ("28.0.0", False), ("29.1.0", False), ("", True)])
def test_an_engine_that_opens_the_loopback_to_its_network_segment_is_told(bootstrap, engine, told):
    docker = READY["docker"].replace("28.0.0", engine)
    result, _ = bootstrap(gpu=T4, machine=READY | {"docker": docker})
    assert result.returncode == 0
    assert ("the machines of this network segment reach TensorBoard" in result.stdout) is told


def test_a_driver_that_is_too_old_for_cuda_12_is_replaced(bootstrap):
    assert "ubuntu-drivers install" in bootstrap(gpu=T4, machine=READY | {"nvidia-smi": "echo 470.256.02"})[1]


def test_a_dry_run_changes_nothing_and_needs_no_root(bootstrap, tmp_path):
    result, calls = bootstrap("--dry-run", "--rerun-after-reboot", gpu=V100, machine=MISSING, user=1000)
    assert result.returncode == 0, result.stderr
    assert "would run: ubuntu-drivers install --gpgpu nvidia:580-server" in result.stdout
    assert "would write: " in result.stdout
    assert {line.split()[0] for line in calls.splitlines()} <= {"lspci", "nvidia-smi", "docker", "nvidia-ctk", "id"}
    assert [path.name for path in (tmp_path / "etc").rglob("*") if path.is_file()] == ["os-release"]


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"gpu": ""}, "no NVIDIA GPU on the PCI bus"),
        ({"gpu": T4, "system": "debian 12"}, "this is debian 12"),
        ({"gpu": T4, "user": 1000}, "Run: sudo "),
    ],
)
def test_a_machine_that_does_not_fit_is_told_before_anything_changes(bootstrap, machine, said):
    result, calls = bootstrap(machine=MISSING, **machine)
    assert result.returncode == 1
    assert said in result.stderr
    assert "apt-get" not in calls


def test_a_container_that_sees_no_gpu_is_a_failure(bootstrap):
    result, _ = bootstrap(gpu=T4, machine=READY | {"docker": "[ $1 != run ] && echo 2.24.6 nvidia"})
    assert result.returncode == 1
    assert "the container sees no GPU" in result.stderr


def test_the_unit_reruns_in_this_clone_and_never_retries_what_a_retry_cannot_help(bootstrap, tmp_path):
    from job import errors

    assert bootstrap("--rerun-after-reboot", gpu=T4, machine=READY)[0].returncode == 0
    unit = (tmp_path / "etc/systemd/system/lora-job.service").read_text()
    assert f"WorkingDirectory={ROOT}\n" in unit
    final = {str(error.exit_code) for error in ERRORS if not error.retryable} | {str(errors.EXIT_BUG)}
    assert set(unit.partition("RestartPreventExitStatus=")[2].split("\n")[0].split()) == final


def test_the_user_data_is_valid_and_calls_the_same_script():
    text = (VM / "cloud-init.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    assert "deploy/vm/bootstrap.sh --rerun-after-reboot" in yaml.safe_load(text)["runcmd"][0][-1]
