#!/bin/sh
# Makes sure that a Docker engine with compose, buildx, a base image and a browser are here, for `make test-container`.
# Whatever runs already is used as it is; the rest comes from Debian packages, which needs root. Prints why where it can't.
set -eu

BASE=lora-job-test-base # stand-in for nvidia/cuda: no registry is needed
PLUGINS=/usr/local/lib/docker/cli-plugins
PATH=/usr/bin:$PATH # Debian's docker before any other

die() {
    echo "engine: $*" >&2
    exit 1
}

may_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

packages() { # installs Debian packages whose command is missing: packages COMMAND PACKAGE...
    command -v "$1" >/dev/null && return
    may_install || die "$1 is not here, and installing it needs root on Debian or Ubuntu."
    shift
    echo "engine: installing $*"
    [ -n "${updated:-}" ] || apt-get update -qq
    updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

plugins() { # compose v2 and buildx: Debian has them from trixie on, and they run on older ones, unpacked
    docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && return
    may_install || die "docker compose v2 and buildx are not here, and installing them needs root on Debian or Ubuntu."
    echo "engine: unpacking docker-compose and docker-buildx"
    folder=$(mktemp -d)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >"$folder/sources"
    mkdir -p "$folder/lists/partial" "$PLUGINS"
    apt="apt-get -qq -o Dir::Etc::SourceList=$folder/sources -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists=$folder/lists -o Dir::Cache=$folder -o APT::Sandbox::User=root"
    $apt update
    (cd "$folder" && $apt download docker-compose docker-buildx)
    for package in "$folder"/*.deb; do dpkg -x "$package" "$folder/tree"; done
    find "$folder/tree" -path '*cli-plugins/docker-*' -type f -exec cp {} "$PLUGINS" \;
    rm -rf "$folder"
}

engine() {
    docker info >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] || die "no Docker engine answers, and starting one needs root."
    packages dockerd docker.io
    echo "engine: starting dockerd, log in /var/log/dockerd.log"
    setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 1
    done
    tail -5 /var/log/dockerd.log >&2
    die "dockerd did not come up."
}

base_image() { # what a company's base image is: the distribution, its CA certificates, its pip settings
    [ -z "${BASE_IMAGE:-}" ] || return 0
    docker image inspect $BASE >/dev/null 2>&1 && return
    packages debootstrap debootstrap
    echo "engine: making $BASE"
    folder=$(mktemp -d)
    debootstrap --variant=minbase bookworm "$folder" >"$folder.log" 2>&1 || die "debootstrap failed, see $folder.log"
    mkdir -p "$folder/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$folder/etc/pip.conf"
    tar -C "$folder" --exclude=./var/cache/apt/archives/*.deb --exclude=./var/lib/apt/lists/* -c . | docker import - $BASE >/dev/null
    rm -rf "$folder" "$folder.log"
}

packages docker docker.io
engine
plugins
packages chromium chromium
packages chromedriver chromium-driver
base_image
