"""A variable that the job does not have, set in a test or a benchmark, would test nothing and nobody would notice."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.config.environment import KNOWN
from tests.conftest import OF_OTHER_PROGRAMS

ROOT = Path(__file__).parents[1]
PLACES = sorted({*ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py")} - {*ROOT.glob("tests/config/*.py"), Path(__file__)})
"""All tests and benchmarks, but those that are about wrong names."""
OF_SHELLS_AND_COMPOSE = {
    "PATH",
    "HOME",
    "ETC",
    "LC_ALL",
    "IMAGE",
    "BASE_IMAGE",
    "PIP_CERT",
    "COMPOSE_PROJECT_NAME",
    "TMPDIR",
    "COLUMNS",
    "TERM",
}
OF_TORCH = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}
OF_LAUNCHERS = {
    "OMP_NUM_THREADS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LORA_JOB_FAILURES",
}  # fmt: skip
OF_ENGINES = {
    "CLUSTER_SPEC",
    "JOB_COMPLETION_INDEX",
    "AWS_REGION",
    "AZUREML_RUN_ID",
    "CLOUD_ML_JOB_ID",
    "TRAINING_JOB_NAME",
    "SLURM_CONF",
    "LORA_JOB_HOME",
}
ALLOWED = {*KNOWN, *OF_OTHER_PROGRAMS, *OF_SHELLS_AND_COMPOSE, *OF_TORCH, *OF_LAUNCHERS, *OF_ENGINES, "LERNING_RATE"}
"""What may be set; the last one is wrong on purpose."""
OTHERS = ("PET_", "SM_", "RAY_", "AIP_", "AZURE_ML_", "SKYPILOT_", "HF_", "TOKENIZERS_", "PYTHON", "TRANSFORMERS_")


def set_names(tree: ast.AST) -> Iterator[str]:
    """The names in capitals that are keys of dicts, names of arguments, or given to setenv."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant) and is_variable(key.value))
        if isinstance(node, ast.Call):
            yield from (keyword.arg for keyword in node.keywords if is_variable(keyword.arg))
            if getattr(node.func, "attr", "") == "setenv" and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def is_variable(name: object) -> bool:
    """Whether this looks like one; a single word may be anything, and the fixtures check what is really set."""
    return isinstance(name, str) and re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name) is not None


def test_every_variable_that_a_test_or_benchmark_sets_exists():
    found = {path.relative_to(ROOT): set(set_names(ast.parse(path.read_text()))) for path in PLACES}
    assert len(set().union(*found.values())) > 40
    assert {
        path: wrong for path, names in found.items() if (wrong := {one for one in names - ALLOWED if not one.startswith(OTHERS)})
    } == {}


def test_the_check_sees_every_form_of_setting():
    tree = ast.parse("job(A_B=1); d = {'C_D': 1, 'lower': 2}; patch.setenv('E', '1'); job(**{'F_2': 3} | more)")
    assert set(set_names(tree)) == {"A_B", "C_D", "E", "F_2"}


def test_the_fixture_refuses_a_variable_that_no_field_has(run_job):
    with pytest.raises(ValueError, match=r"^no field of Settings is named so: MICRO_BATCH_SIZE$"):
        run_job(MAX_STEPS=1, MICRO_BATCH_SIZE=2)
