"""What the pods of the Kubernetes manifests start, in the image: as the manifest has them run, with what the controllers set."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openpyxl import Workbook

from job.errors import SettingsError
from tests.conftest import checked
from tests.container.clones import docker, said
from tests.engines.manifests import WAYS, names_of_pods, pod_of, render, tensorboard_of, variables_of_pod
from tests.slurm.cluster import wait_until

SHORT = {
    "MODEL_ID": "demo",
    "MAX_STEPS": 2,
    "EVAL_STRATEGY": "no",
    "EVAL_MAX_ROWS": 4,
    "MAX_NEW_TOKENS": 4,
    "METRICS": "exact_match",
}

Start = Callable[..., str]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What the claim gives, with a spreadsheet in it; the group of the pod may write, as fsGroup makes it."""
    folder = tmp_path / "work"
    (folder / "data").mkdir(parents=True)
    workbook = Workbook()
    for row in [("input", "output_ground_truth"), *((f"Turn {number} round.", str(number)[::-1]) for number in range(100, 140))]:
        workbook.active.append(row)
    workbook.save(folder / "data" / "mine.xlsx")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    return folder


@pytest.fixture
def start(image: str, volume: Path) -> Iterator[Start]:
    """Starts a pod that is found by this name, and gives its container."""
    network, started = f"test-{uuid.uuid4().hex[:8]}", []
    assert docker("network", "create", network).returncode == 0

    def pod(spec: dict, name: str, variables: dict[str, object]) -> str:
        (container,) = spec["containers"]
        program, *arguments = [*container.get("command", ["python", "/app/entrypoint.py"]), *container.get("args", [])]
        options = ["--network", network, "--network-alias", name, "--hostname", name.partition(".")[0], "--entrypoint", program]
        options += [*as_its_user(spec, container), *with_its_folders(spec, container, volume)]
        options += [f"--env={key}={value}" for key, value in variables.items()]
        result = docker("run", "--detach", *options, image, *arguments)
        assert result.returncode == 0, said(result)
        started.append(result.stdout.strip())
        return started[-1]

    yield pod
    for container in started:
        docker("rm", "--force", container)
    docker("network", "rm", network)


def as_its_user(spec: dict, container: dict) -> list[str]:
    """Docker's options for a pod's security context."""
    user, rights = spec["securityContext"], container["securityContext"]
    assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False)
    options = ["--read-only", "--security-opt", "no-new-privileges", f"--user={user['runAsUser']}:{user['runAsGroup']}"]
    return [*options, *(f"--cap-drop={one}" for one in rights["capabilities"]["drop"])]


def with_its_folders(spec: dict, container: dict, claimed: Path) -> list[str]:
    """Docker's options for a pod's volumes: the claimed one, and empty ones in memory."""
    kinds, options = {volume["name"]: volume for volume in spec["volumes"]}, []
    for mount in container["volumeMounts"]:
        is_claimed = "persistentVolumeClaim" in kinds[mount["name"]]
        options.append(f"--volume={claimed}:{mount['mountPath']}" if is_claimed else f"--tmpfs={mount['mountPath']}:exec,mode=1777")
    return options


def train(way: str, start: Start, **more: object) -> list[tuple[int, str]]:
    """Exit code and log of each pod of a job."""
    documents = render(way)
    pods = [
        start(pod_of(documents), name, variables_of_pod(documents, number) | checked(SHORT | more))
        for number, name in enumerate(names_of_pods(documents))
    ]
    return [(int(docker("wait", pod, timeout=600).stdout), said(docker("logs", pod))) for pod in pods]


@pytest.mark.parametrize(("way", "pods"), list(zip(WAYS, (1, 2, 2, 2), strict=True)))
def test_its_pods_train_on_the_spreadsheet_in_the_volume(way, pods, start, volume):
    ended = train(way, start)
    assert [code for code, _ in ended] == [0] * pods, ended
    assert (volume / "output" / "mine" / "adapter" / "adapter_model.safetensors").exists()
    assert (volume / "logs" / "mine").is_dir()
    assert "verdict:" in ended[0][1]
    assert all("verdict:" not in log for _, log in ended[1:])


def test_a_wrong_setting_ends_with_the_code_that_ends_the_job_and_writes_nothing(start, volume):
    ((code, log),) = train("one-node", start, LORA_R="none")
    assert code == SettingsError.exit_code, log
    assert [path.name for path in volume.iterdir()] == ["data"]


def test_tensorboard_answers_its_probe_and_a_forwarded_port_and_no_other_name(start):
    spec = tensorboard_of(render("base"))
    (container,) = spec["containers"]
    probe = container["readinessProbe"]["httpGet"]
    asked_by_probe = {header["name"]: header["value"] for header in probe["httpHeaders"]}
    pod = start(spec, "tensorboard", {entry["name"]: entry["value"] for entry in container["env"]})
    ask = (
        "import http.client, sys\n"
        f"connection = http.client.HTTPConnection('127.0.0.1', {probe['port']}, timeout=30)\n"
        f"connection.request('GET', '{probe['path']}', headers={{'Host': sys.argv[1]}})\n"
        "print(connection.getresponse().status)"
    )

    def status(host: str) -> str:
        return docker("exec", pod, "python", "-c", ask, host).stdout.strip()

    wait_until(lambda: status(asked_by_probe["Host"]) == "200", 120, lambda: said(docker("logs", pod)))
    assert [status(host) for host in ("localhost:6006", "10.1.0.7:6006", "rebound.example")] == ["200", "403", "403"]
