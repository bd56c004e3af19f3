"""The tools of each engine, in a virtual environment of its own beside the project's, made once from the list of that name."""

import functools
import subprocess
import sys
import sysconfig
from pathlib import Path

ENVIRONMENTS = Path(__file__).parents[2] / ".engines"


@functools.cache
def programs_of(engine: str) -> Path:
    """The folder of programs of an engine's environment, where the project's own packages can be imported too."""
    folder, wanted = ENVIRONMENTS / engine, Path(__file__).with_name(f"{engine}.txt")
    stamp, programs = folder / "installed", folder / "bin"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([programs / "pip", "install", "--quiet", "--no-deps", "-r", wanted], check=True)
        site = sysconfig.get_path("purelib", vars={"base": str(folder)})
        Path(site, "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        stamp.write_text(wanted.read_text())
    return programs
