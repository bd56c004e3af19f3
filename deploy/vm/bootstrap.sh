#!/bin/sh
# Makes an Ubuntu 22.04 or 24.04 machine with an NVIDIA GPU ready for `docker compose up`: driver, Docker, container toolkit.
#
#     sudo deploy/vm/bootstrap.sh [--dry-run] [--rerun-after-reboot]
#
# --dry-run says what it would do and changes nothing. --rerun-after-reboot installs lora-job.service as well, for spot machines.
# What is there already is left alone, so run it as often as you like.
set -eu

DRIVER=580           # the last branch that drives a V100
OLDEST_DRIVER=525    # the first that runs CUDA 12
SAFE_TOOLKIT=1.17.8  # before it: CVE-2025-23266
COMPOSE=2.24         # the first with env_file.required and !reset
CLOSED_ENGINE=28      # before it: machines of the same network segment reach ports that are published on 127.0.0.1
FIRST_TURING=0x1e00  # PCI device ids below are Volta and older: the open kernel modules do not drive them
TEST_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2
TOOLKIT_REPOSITORY=https://nvidia.github.io/libnvidia-container
TOOLKIT_KEY=C95B321B61E88C1809C4F759DDCAE044F796ECB0 # NVIDIA CORPORATION (Open Source Projects) <cudatools@nvidia.com>

ETC=${ETC:-/etc}     # elsewhere in the tests
REPOSITORY=$(cd "$(dirname "$0")/../.." && pwd)
dry_run='' rerun='' updated=''

say() { echo "bootstrap: $*"; }

die() {
    echo "bootstrap: $*" >&2
    exit 1
}

run() { # runs a command, or says that it would
    if [ -n "$dry_run" ]; then echo "  would run: $*"; else "$@"; fi
}

write() { # write FILE CONTENT
    if [ -n "$dry_run" ]; then echo "  would write: $1"; else printf '%s\n' "$2" >"$1"; fi
}

install() { # Debian packages
    [ -n "$updated" ] || run apt-get update -q
    updated=yes
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

at_least() { # at_least VERSION WANTED
    [ -n "$1" ] && dpkg --compare-versions "$1" ge "$2"
}

options() {
    for option; do
        case $option in
        --dry-run) dry_run=yes ;;
        --rerun-after-reboot) rerun=yes ;;
        *) die "$option: no such option. There are --dry-run and --rerun-after-reboot." ;;
        esac
    done
}

check_machine() {
    [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || die "this installs packages. Run: sudo $0"
    # shellcheck source=/dev/null
    . "$ETC/os-release"
    case "$ID $VERSION_ID" in
    "ubuntu 22.04" | "ubuntu 24.04") ;;
    *) die "this is $ID $VERSION_ID, and it was made for Ubuntu 22.04 and 24.04. Install driver, Docker and toolkit by hand." ;;
    esac
    command -v lspci >/dev/null || install pciutils
    device_ids=$(lspci -n -d 10de: 2>/dev/null | sed -n 's/.* 030[02]: 10de:\([0-9a-f]*\).*/\1/p')
    [ -n "$device_ids" ] || die "no NVIDIA GPU on the PCI bus. Choose an instance type with one: see deploy/vm/README.md."
}

driver() {
    version=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1) || version=''
    if at_least "$version" "$OLDEST_DRIVER"; then
        say "driver $version is there"
        return
    fi
    flavour=$DRIVER-server-open
    for id in $device_ids; do
        [ $((0x$id)) -ge $((FIRST_TURING)) ] || flavour=$DRIVER-server # proprietary modules
    done
    say "installing driver $flavour"
    install ubuntu-drivers-common "linux-headers-$(uname -r)"
    run ubuntu-drivers install --gpgpu "nvidia:$flavour"
    install "nvidia-utils-$DRIVER-server"
    run modprobe --remove nouveau || true
    run modprobe nvidia || die "the new driver does not load into this kernel. Reboot, then run this again."
}

docker_engine() {
    version=$(docker compose version --short 2>/dev/null) || version=''
    if at_least "${version#v}" "$COMPOSE"; then
        say "docker compose $version is there"
    else
        say "installing Docker"
        install docker.io docker-compose-v2 docker-buildx
    fi
    run systemctl enable --now docker
    version=$(docker version --format '{{.Server.Version}}' 2>/dev/null) || version=''
    at_least "$version" "$CLOSED_ENGINE" || [ -n "$dry_run" ] ||
        say "WARNING: with Docker ${version:-of unknown version} the machines of this network segment reach TensorBoard, which has no" \
            "login. Upgrade to $CLOSED_ENGINE, or run: iptables -t raw -I PREROUTING ! -i lo -d 127.0.0.0/8 -j DROP"
}

check_key() { # check_key FILE
    [ -z "$dry_run" ] || return 0
    found=$(gpg --show-keys --with-colons "$1" 2>/dev/null | sed -n '/^pub/,/^fpr/s/^fpr:*\([0-9A-F]*\):.*/\1/p' | tr '\n' ' ')
    [ "$found" = "$TOOLKIT_KEY " ] ||
        die "$TOOLKIT_REPOSITORY/gpgkey is not NVIDIA's key $TOOLKIT_KEY but ${found:-none}. Install the container toolkit by hand."
}

toolkit() {
    version=$(nvidia-ctk --version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p') || version=''
    if at_least "$version" "$SAFE_TOOLKIT"; then
        say "container toolkit $version is there"
    else
        say "installing the container toolkit"
        install ca-certificates curl gpg
        key=$ETC/apt/keyrings/nvidia-container-toolkit.gpg
        run curl -fsSL --output "$key.asc" "$TOOLKIT_REPOSITORY/gpgkey"
        check_key "$key.asc"
        run gpg --dearmor --yes --output "$key" "$key.asc"
        write "$ETC/apt/sources.list.d/nvidia-container-toolkit.list" \
            "deb [signed-by=$key] $TOOLKIT_REPOSITORY/stable/deb/$(dpkg --print-architecture) /"
        updated=''
        install nvidia-container-toolkit
    fi
    if docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q '"nvidia"'; then
        say "Docker knows the nvidia runtime"
    else
        run nvidia-ctk runtime configure --runtime=docker
        run systemctl restart docker
    fi
}

check_gpu() {
    say "checking that a container sees the GPU"
    run docker run --rm --gpus all "$TEST_IMAGE" nvidia-smi -L ||
        die "the container sees no GPU. Look at: nvidia-smi; docker info | grep -i runtimes; journalctl -u docker"
}

rerun_after_reboot() {
    unit=$ETC/systemd/system/lora-job.service
    say "installing $unit"
    write "$unit" "$(sed "s|@REPOSITORY@|$REPOSITORY|" "$REPOSITORY/deploy/vm/lora-job.service")"
    run systemctl daemon-reload
    run systemctl enable lora-job.service
}

options "$@"
check_machine
driver
docker_engine
toolkit
check_gpu
[ -z "$rerun" ] || rerun_after_reboot
say "ready. Next: cd $REPOSITORY && docker compose up"
