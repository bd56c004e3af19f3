"""Two containers on a Docker network as two machines, each with a clone of its own; machine 0 alone has a folder for output."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import checked, environment_with
from tests.container.clones import CPU, ROOT, Clone, docker, said
from tests.slurm.cluster import wait_until

FILES = (*CPU, "-f", "docker-compose.cluster.yml")
TRAINING = {
    "MAX_STEPS": 40,
    "EVAL_MAX_ROWS": 8,
    "SAVE_STRATEGY": "steps",
    "SAVE_STEPS": 5,
    "EVAL_STRATEGY": "no",
    "LORA_DROPOUT": 0,
}


@pytest.fixture
def network(image: str) -> Iterator[str]:
    """A bridge between containers."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    assert docker("network", "create", name).returncode == 0
    yield name
    docker("network", "rm", name)


@pytest.fixture
def machines(network: str, make_clone: Callable[[int], Clone]) -> list[Clone]:
    """Clones on two machines, ready to train together."""
    clones = [make_clone(1000), make_clone(1001)]
    for rank, clone in enumerate(clones):
        variables = checked(TRAINING | {"NNODES": 2, "NODE_RANK": rank, "MASTER_ADDR": "machine-0"})
        (clone.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        (clone.folder / "network.yml").write_text(network_of(f"machine-{rank}", network, writes=rank == 0))
    return clones


def network_of(machine: str, network: str, writes: bool) -> str:
    """A compose file that puts the job on that network instead of the host's; where it may not write, each try would fail."""
    nowhere = {} if writes else {"OUTPUT_DIR": "/proc/nowhere", "LOGS_DIR": "/proc/nowhere"}
    job = yaml.dump({"hostname": machine, "networks": {"cluster": {"aliases": [machine]}}, "environment": nowhere})
    indented = "".join(f"    {line}\n" for line in job.splitlines())
    return (
        f"services:\n  job:\n    network_mode: !reset null\n{indented}networks:\n  cluster: {{external: true, name: {network}}}\n"
    )


def start(machines: list[Clone]) -> list[str]:
    """The containers of the job."""
    started = []
    for clone in machines:
        result = clone.compose("up", "--detach", "job", files=(*FILES, "-f", "network.yml"))
        assert result.returncode == 0, said(result)
        started.append(clone.compose("ps", "--all", "--quiet", "job").stdout.strip())
    return started


def wait(containers: list[str]) -> list[int]:
    """Their exit codes."""
    return [int(docker("wait", container, timeout=900).stdout) for container in containers]


def logs(containers: list[str]) -> str:
    return "\n".join(said(docker("logs", "--tail", "30", container)) for container in containers)


def adapter(run: Path) -> torch.Tensor:
    tensors = load_file(run / "adapter" / "adapter_model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def run_on_one_machine(folder: Path) -> Path:
    """The folder of the same run without a container."""
    command = [sys.executable, ROOT / "entrypoint.py"]
    environment = environment_with(TRAINING | {"DEVICE": "cpu"})
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder / "output" / "demo"


def test_a_machine_that_is_lost_ends_the_other_with_138_and_both_resume(machines, tmp_path_factory):
    run = machines[0].folder / "output" / "demo"
    containers = start(machines)
    wait_until(lambda: list(run.glob("checkpoints/checkpoint-*/manifest.json")), 240, lambda: logs(containers))
    assert docker("kill", containers[1]).returncode == 0
    assert wait(containers) == [138, 137], logs(containers)
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["retryable"]) == ("failed", 138, True)
    containers = start(machines)
    assert wait(containers) == [0, 0], logs(containers)
    assert "resum" in logs(containers)
    assert [path.name for path in (machines[1].folder / "output").iterdir()] == [".gitkeep"]
    expected = adapter(run_on_one_machine(tmp_path_factory.mktemp("alone")))
    assert (adapter(run) - expected).norm() / expected.norm() < 1e-5
