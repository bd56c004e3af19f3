#!/bin/sh
# Makes sure that Slurm and munge are here, for `make test-slurm`: 14 s. Prints why where it can't.
set -eu

command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Slurm is not here, and installing it needs root on Debian or Ubuntu." >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
