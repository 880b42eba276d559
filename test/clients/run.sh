#!/usr/bin/env bash
# The real-client suite: npm run test:clients [-- --long] [-- bun test options, e.g. -t skopeo]
# Needs root and Linux. Everything runs in a network, mount and process namespace of its own: names such as docker.io lead
# nowhere in it, ports and /etc/hosts are its own, and the last process to end takes all others with it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${LAYOVER_CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/layover-clients}
export PATH=$root/node_modules/.bin:$cache/bin:/usr/sbin:/sbin:$PATH

arguments=()
for argument in "$@"; do
  if [ "$argument" = --long ]; then export LAYOVER_CLIENTS_LONG=1; else arguments+=("$argument"); fi
done

if [ "$(id -u)" != 0 ]; then
  echo "test:clients: expected root, for namespaces and container daemons" >&2
  exit 1
fi
mkdir -p "$cache"

# The store is made again when what makes it has changed.
version=$(cat "$here/catalogue.ts" "$here/layers.ts" "$here/push.ts" "$root/test/support/images.ts" | sha256sum | cut -c1-12)
export LAYOVER_CLIENTS_STORE=$cache/store-$version
export LAYOVER_CLIENTS_ARGUMENTS=${arguments[*]-}

exec unshare --net --mount --pid --fork --kill-child --mount-proc bash "$here/inside.sh" "${arguments[@]}"
