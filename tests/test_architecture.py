"""What docs/architecture.md says of the code as a whole, read off the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"commands"},
    {"serving"},
    {"pipeline"},
    {"config"},
    {"preflight"},
    {"training", "evaluation", "plan"},
    {"publish", "model", "data"},
    {"tables"},
    {"system"},
    {"labels", "errors"},
]
"""Folders and modules of `job`, from the top down: each imports only what lies on floors below its own."""
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
MODULES = sorted(path for path in ROOT.glob("job/**/*.py") if path.name != "__init__.py" and path.parent.name != "demo")


def part_of(path: Path) -> str:
    """The part of `job` that a module belongs to: "tables" for job/tables/read.py."""
    return path.relative_to(ROOT / "job").parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The parts of `job` that a module imports: "tables" for `job.tables.read`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "job":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("job."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("job.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    part = part_of(path)
    higher = {other for other in imported_parts(path) - {part, "__version__"} if FLOOR[other] <= FLOOR[part]}
    assert not higher, f"{part} imports {higher}"


def test_the_check_of_imports_sees_every_form_of_import(tmp_path):
    (tmp_path / "module.py").write_text("from job.tables.read import Table\nfrom job import errors\nimport job.config.settings\n")
    assert imported_parts(tmp_path / "module.py") == {"tables", "errors", "config"}


def test_every_module_has_its_file_of_tests():
    wanted = {path: ROOT / "tests" / path.relative_to(ROOT / "job").with_name(f"test_{path.name}") for path in MODULES}
    missing = [str(tests.relative_to(ROOT)) for tests in wanted.values() if not tests.exists()]
    assert not missing, f"{len(missing)} modules of job/ have no file of tests: {', '.join(missing)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_and_the_librarys_trainer_is_imported_nowhere(path):
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not imported & {
        "pickle",
        "dill",
        "cloudpickle",
        "torch.load",
        "torch.save",
        "transformers.Trainer",
        "transformers.trainer",
    }
    assert not imported & {"transformers.TrainingArguments", "transformers.TrainerCallback"}
    assert not called & {"torch.load", "torch.save", "transformers.Trainer"}


def run_python(code: str) -> int:
    """The exit code of a program in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode


def test_settings_are_read_without_torch():
    heavy = ("torch", "transformers", "datasets", "numpy")
    assert run_python(f"import sys, job.config.environment; sys.exit(any(name in sys.modules for name in {heavy}))") == 0


def test_help_is_answered_without_reading_settings():
    assert run_python("import sys, entrypoint; entrypoint.main(['--help']); sys.exit('pydantic' in sys.modules)") == 0


def test_torch_has_kernels_from_v100_to_b200():
    assert {"sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"} <= set(torch._C._cuda_getArchFlags().split())


def test_the_lock_holds_hashes_and_no_host():
    for name in ("requirements.txt", "requirements-test.txt"):
        lines = (ROOT / name).read_text().splitlines()
        pinned = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pinned
        assert all(line.endswith("\\") for line in pinned)
        assert not any("://" in line or ("index-url" in line and not line.startswith("#")) for line in lines)
