#!/bin/sh
# Makes .venv and installs the lock; with "test" the test tools as well. Does nothing where that is done already.
# A missing package, Python or disk space is reported before anything is installed.
set -eu

NEEDED_GB=10 # the installed stack is 8 GB, pip unpacks beside it

die() {
    echo "setup: $*" >&2
    exit 1
}

stamp() { # the content that the installation depends on
    cat requirements.txt ${tools:+"$tools"} | cksum
}

find_python() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    die "Python 3.11, 3.12 or 3.13 is needed, found $(python3 --version 2>/dev/null || echo none)." \
        "Install one, or name it: make PYTHON=/path/to/python3.12 ..."
}

check_machine() {
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$python cannot make virtual environments. Run: sudo apt-get install python3-venv"
    free_gb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "$free_gb" -ge "$NEEDED_GB" ] ||
        die "$NEEDED_GB GB of free disk are needed here, $free_gb GB are free. Free some, or move this folder to a larger disk."
}

tools=""
[ "${1:-}" = test ] && tools=requirements-test.txt
done_file=.venv/installed${1:+-$1}
[ -f "$done_file" ] && [ "$(cat "$done_file")" = "$(stamp)" ] && exit 0

python=$(find_python)
[ -x .venv/bin/python ] || { check_machine && "$python" -m venv .venv; }
echo "setup: installing into .venv (about 8 GB, some minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt ${tools:+-r "$tools"} ||
    die "the installation failed; the reason stands above. Run the command again once it is fixed."
stamp >"$done_file"
[ -z "$tools" ] || cksum <requirements.txt >.venv/installed
