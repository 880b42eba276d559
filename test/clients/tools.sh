#!/usr/bin/env bash
# Builds the clients that Debian does not have, from Go modules, into the suite's cache: crane, helm, cosign, containerd 2 and docker 29.
# Needs Go 1.21 or later (it fetches the toolchain a module asks for). What is there already is left alone.
set -euo pipefail
cache=${LAYOVER_CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/layover-clients}
mkdir -p "$cache/bin" "$cache/build"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOBIN=$cache/build

build() { # name package@version [go install options]
  local name=$1 package=$2
  shift 2
  [ -x "$cache/bin/$name" ] && return
  echo "building $name from $package"
  nice go install -trimpath -ldflags '-s -w' "$@" "$package"
  local program=${package##*/}
  mv "$GOBIN/${program%@*}" "$cache/bin/$name"
}

build crane github.com/google/go-containerregistry/cmd/crane@v0.22.1
build containerd2 github.com/containerd/containerd/v2/cmd/containerd@v2.4.2 -tags no_btrfs
build ctr2 github.com/containerd/containerd/v2/cmd/ctr@v2.4.2 -tags no_btrfs
build containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@v2.4.2
build dockerd2 github.com/moby/moby/v2/cmd/dockerd@v2.0.0-beta.24
build helm helm.sh/helm/v3/cmd/helm@v3.22.0
build cosign github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5
