"""What DESIGN.md says of the code as a whole, read off the code."""

import ast
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
STAGES = {"data", "plan", "model", "training", "evaluation", "publish", "hardware"}
TOP = {
    "settings",
    "environment",
    "configs",
    "run",
    "steps",
    "predict",
    "run_folder",
    "console",
    "settings_docs",
    "fit",
    "forecast",
    "results",
    "doctor",
    "watch",
    "proof",
    "merge",
    "compare",
}
MODULES = sorted(ROOT.glob("job/**/*.py"))


def imported_parts(path: Path) -> set[str]:
    """The parts of `job` that a module imports: "data" for `job.data.read`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "job":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("job."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    part = path.relative_to(ROOT / "job").parts[0].removesuffix(".py")
    if part in STAGES:
        assert not imported_parts(path) & ((STAGES - {part}) | TOP)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_reach_no_stage_by_a_detour(path):
    part = path.relative_to(ROOT / "job").parts[0].removesuffix(".py")
    if part not in TOP:
        assert not imported_parts(path) & TOP


def test_the_check_of_imports_sees_an_import(tmp_path):
    (tmp_path / "module.py").write_text("from job.data.read import Table\nfrom job import configs\n")
    assert imported_parts(tmp_path / "module.py") == {"data", "configs"}


def test_settings_are_read_without_torch():
    import subprocess
    import sys

    code = "import sys, job.environment; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_help_is_answered_without_reading_settings():
    import subprocess
    import sys

    code = "import sys, entrypoint; entrypoint.main(['--help']); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_torch_has_kernels_from_v100_to_b200():
    assert {"sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"} <= set(torch._C._cuda_getArchFlags().split())


def test_the_lock_holds_hashes_and_no_host():
    for name in ("requirements.txt", "requirements-test.txt"):
        lines = (ROOT / name).read_text().splitlines()
        pinned = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pinned
        assert all(line.endswith("\\") for line in pinned)
        assert not any("://" in line or ("index-url" in line and not line.startswith("#")) for line in lines)
