"""The Kubernetes manifests, as kubectl renders them: valid to the last field. What their pods start runs in the image, in
tests/container/test_pods.py. No cluster has applied them."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from job.errors import EXIT_BUG
from tests.conftest import ERRORS
from tests.engines.environments import programs_of
from tests.engines.manifests import MANIFESTS, WAYS, job_of, names_of_pods, pod_of, render, settings_of, tensorboard_of

OF_OPERATORS = ("JobSet", "TrainJob", "TrainingRuntime")
NO_RETRY = sorted({EXIT_BUG, *(error.exit_code for error in ERRORS if not error.retryable)})


def validate(documents: list[dict], folder: Path) -> tuple[int, str]:
    """What kubernetes-validate says of documents of Kubernetes' own kinds."""
    (folder / "documents.yaml").write_text(yaml.safe_dump_all(documents))
    program = [programs_of("kubernetes") / "kubernetes-validate", "--strict", folder / "documents.yaml"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def unknown_fields(documents: list[dict], folder: Path) -> list[str]:
    (folder / "documents.yaml").write_text(yaml.safe_dump_all(documents))
    program = [programs_of("kubernetes") / "python", Path(__file__).with_name("unknown_fields.py"), folder / "documents.yaml"]
    return subprocess.run(program, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("way", WAYS)
def test_every_document_is_valid_and_has_no_field_that_its_kind_lacks(way, tmp_path):
    documents = render(way)
    own = [document for document in documents if document["kind"] not in OF_OPERATORS]
    code, said = validate([*own, job_of(documents)], tmp_path)
    assert code == 0, said
    assert said.count("passed") == len(own) + 1
    assert unknown_fields([document for document in documents if document not in own], tmp_path) == []


def test_the_volume_and_tensorboard_can_be_there_before_the_first_job(tmp_path):
    documents = render("base")
    code, said = validate(documents, tmp_path)
    assert code == 0, said
    assert sorted(document["kind"] for document in documents) == ["ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"]
    for way in WAYS:
        assert [document for document in render(way) if document in documents and document["kind"] != "ConfigMap"] == [
            document for document in documents if document["kind"] != "ConfigMap"
        ], "a job changes none of it"


def test_a_misspelt_field_would_be_found(tmp_path):
    job = job_of(render("one-node"))
    job["spec"]["template"]["spec"]["terminationGracePeriod"] = 120
    code, said = validate([job], tmp_path)
    assert (code != 0, "terminationGracePeriod" in said) == (True, True)
    (train_job,) = (document for document in render("trainjob") if document["kind"] == "TrainJob")
    train_job["spec"]["trainer"]["numProcesses"] = 2
    assert unknown_fields([train_job], tmp_path) == ["TrainJob.spec.trainer.numProcesses"]


@pytest.mark.parametrize("way", WAYS)
def test_the_codes_that_a_retry_cannot_help_end_the_job_and_no_others(way):
    documents = render(way)
    (container,) = pod_of(documents)["containers"]
    rules = [rule for rule in job_of(documents)["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert rules == [
        {"action": "FailJob", "onExitCodes": {"containerName": container["name"], "operator": "In", "values": NO_RETRY}}
    ]


@pytest.mark.parametrize("way", WAYS)
def test_pods_have_no_service_variables_no_root_and_tokens_from_a_secret_alone(way):
    documents = render(way)
    for pod in (pod_of(documents), tensorboard_of(documents)):
        assert (pod["enableServiceLinks"], pod["automountServiceAccountToken"]) == (False, False)
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
        assert {container["image"] for container in pod["containers"]} == {"registry.example/lora-job:0.2.0"}
    (container,) = pod_of(documents)["containers"]
    assert {"secretRef": {"name": "lora-job-tokens", "optional": True}} in container["envFrom"]
    assert not [name for name in settings_of(documents) if "TOKEN" in name]


@pytest.mark.parametrize("way", WAYS)
def test_the_grace_period_and_the_machines_follow_from_the_settings(way, tmp_path):
    shutil.copytree(MANIFESTS, tmp_path / "k")
    for path, before, after in (
        ("base/settings.env", "GRACE_S=120", "GRACE_S=45"),
        (f"{way}/kustomization.yaml", "NNODES=2", "NNODES=5"),
    ):
        (tmp_path / "k" / path).write_text((tmp_path / "k" / path).read_text().replace(before, after))
    documents = render(way, tmp_path / "k")
    assert pod_of(documents)["terminationGracePeriodSeconds"] == 45
    if way in ("several-nodes", "jobset"):
        spec = job_of(documents)["spec"]
        assert (spec["completions"], spec["parallelism"], settings_of(documents)["NNODES"]) == (5, 5, "5")


@pytest.mark.parametrize("way", ["several-nodes", "jobset"])
def test_machines_meet_at_the_first_pod_by_the_name_that_dns_knows(way):
    documents = render(way)
    assert settings_of(documents)["MASTER_ADDR"] == names_of_pods(documents)[0]


def test_a_headless_service_names_the_pods_of_a_plain_job():
    documents = render("several-nodes")
    services = {document["metadata"]["name"]: document for document in documents if document["kind"] == "Service"}
    service = services[pod_of(documents)["subdomain"]]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job_of(documents)["metadata"]["name"]}
