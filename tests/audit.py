"""`make audit`: every pinned package looked up in PyPI's list of known vulnerabilities; exit code 69 where that cannot be had."""

import os
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.txt"
IGNORED = {
    "CVE-2025-3000": ("jit.script", "memory corruption in torch.jit.script; torch 2.10 is the last for a V100, mended in 2.13"),
    "CVE-2026-4538": ("export.load", "torch.export.load runs what a .pt2 file says; no such file is read, no version is mended"),
}
"""Known, and no danger here: the call that it takes, which nothing in job/ makes (tests/test_audit.py), and why it stays."""
NO_LIST = ("could not be audited", "ConnectionError", "Max retries", "Failed to resolve", "timed out", "ConnectTimeout")


def main() -> int:
    command = [Path(sys.executable).with_name("pip-audit"), "--requirement", LOCK, "--require-hashes", "--disable-pip", "--strict"]
    command += [f"--ignore-vuln={name}" for name in IGNORED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr for sign in NO_LIST):
        why = done.stderr.strip().splitlines()[-1]
        print(f"audit: nothing was checked, the list of known vulnerabilities cannot be had here ({why}).", file=sys.stderr)
        return os.EX_UNAVAILABLE
    print(done.stdout + done.stderr, end="")
    for name, (_, why) in IGNORED.items():
        print(f"ignored: {name}, {why}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
