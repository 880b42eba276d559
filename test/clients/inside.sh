#!/usr/bin/env bash
# What run.sh runs inside the namespaces: gives them a loopback, names and no way out, then runs the tests.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

ip link set lo up
ip address add 10.99.0.1/32 dev lo
mount -t tmpfs tmpfs /run
mkdir -p /run/layover-clients
cat >/run/layover-clients/hosts <<'HOSTS'
127.0.0.1 localhost
10.99.0.1 layover.test docker.layover.test quay.layover.test ghcr.layover.test ecr.layover.test k8s.layover.test
HOSTS
: >/run/layover-clients/resolv.conf
mount --bind /run/layover-clients/hosts /etc/hosts
mount --bind /run/layover-clients/resolv.conf "$(readlink -f /etc/resolv.conf)" 2>/dev/null || true

if [ ! -f "$LAYOVER_CLIENTS_STORE/references.json" ]; then
  rm -rf "$LAYOVER_CLIENTS_STORE"
  bun "$here/prepare.ts" "$LAYOVER_CLIENTS_STORE.new"
  mv "$LAYOVER_CLIENTS_STORE.new" "$LAYOVER_CLIENTS_STORE"
fi

# Tests may push: what they write is gone with the namespace.
mkdir -p /run/layover-clients/{upper,work,store}
mount -t overlay overlay /run/layover-clients/store \
  -o "lowerdir=$LAYOVER_CLIENTS_STORE,upperdir=/run/layover-clients/upper,workdir=/run/layover-clients/work"
export LAYOVER_CLIENTS_STORE=/run/layover-clients/store

cd "$root"
bun test --timeout 300000 "$@" test/clients
