/**
 * `layover setup CLIENT`: the configuration that leads one client through this address, ready to paste. Each client asks
 * in its own way: a mirror for Docker Hub only, `ns` with each request, or the registry's host as the first part of a name.
 */
import type { RegistryMap } from "../registry/registry.ts";

export interface SetupOptions {
  /** How clients reach us: `"https://registry.example.com"`, no slash at the end. */
  readonly origin: string;
  readonly map: RegistryMap;
}

/** A registry as clients name it. */
interface Name {
  /** `"ghcr.io"`. */
  readonly host: string;
  /** Where a client goes when we do not answer: `"https://ghcr.io"`. */
  readonly server: string;
}

interface Client {
  readonly origin: string;
  /** `"registry.example.com"`, with port. */
  readonly host: string;
  readonly isHttp: boolean;
  readonly names: readonly Name[];
}

const CLIENTS: Readonly<Record<string, (client: Client) => string[]>> = {
  docker: forDocker,
  docker29: forDocker29,
  containerd: forContainerd,
  k3s: (client) => ["# /etc/rancher/k3s/registries.yaml, then: systemctl restart k3s", ...registriesYaml(client)],
  podman: forPodman,
  buildkit: forBuildkit,
  kind: forKind,
  k3d: (client) => [
    "# registries.yaml, then: k3d cluster create --registry-config registries.yaml",
    ...insideContainers(client),
    ...registriesYaml(client),
  ],
};

export const CLIENT_NAMES: readonly string[] = Object.keys(CLIENTS);

/** The text for a client; undefined for one we do not know. */
export function setupText(client: string, { origin, map }: SetupOptions): string | undefined {
  if (!Object.hasOwn(CLIENTS, client)) return undefined;
  const url = new URL(origin);
  const names = map.registries.flatMap(({ isDockerHub, hosts }): Name[] => {
    if (isDockerHub) return [{ host: "docker.io", server: "https://registry-1.docker.io" }];
    return hosts.map((host) => ({ host, server: `https://${host}` }));
  });
  const lines = CLIENTS[client]?.({ origin, host: url.host, isHttp: url.protocol === "http:", names }) ?? [];
  return `${lines.join("\n")}\n`;
}

function forDocker({ origin, host, isHttp, names }: Client): string[] {
  const daemon = { "registry-mirrors": [origin], ...(isHttp && { "insecure-registries": [host] }) };
  const others = names.map((name) => name.host).filter((name) => name !== "docker.io");
  const other = others.includes("ghcr.io") ? "ghcr.io" : others[0];
  return [
    "# /etc/docker/daemon.json, then: systemctl restart docker",
    ...JSON.stringify(daemon, undefined, 2).split("\n"),
    "",
    "# A mirror serves images of Docker Hub alone; docker 29 can mirror every registry: layover setup docker29",
    "# The daemon cannot log in to a mirror: where Layover wants logins (--htpasswd), --allow-from must name this machine's",
    "# address, or pulls go to Docker Hub itself without a word.",
    ...(other === undefined
      ? []
      : [`# Other images are pulled by this address: docker pull ${host}/${other}/org/image:tag`]),
  ];
}

/** Docker 29 reads containerd's files, from a folder of its own (protocol R165). */
function forDocker29(client: Client): string[] {
  return ["# One file for each registry, then: systemctl restart docker", ...hostsFiles("/etc/docker/certs.d", client)];
}

function forContainerd(client: Client): string[] {
  return [
    "# /etc/containerd/config.toml, then: systemctl restart containerd",
    '[plugins."io.containerd.cri.v1.images".registry] # containerd 1.x: "io.containerd.grpc.v1.cri"',
    '  config_path = "/etc/containerd/certs.d"',
    "",
    ...hostsFiles("/etc/containerd/certs.d", client),
  ];
}

/** `ns` tells us which registry is meant, so the path stays empty (protocol R170, R171). */
function hostsFiles(folder: string, { origin, names }: Client): string[] {
  return names.flatMap(({ host, server }, i) => [
    ...(i === 0 ? [] : [""]),
    `# ${folder}/${host}/hosts.toml`,
    `server = "${server}"`,
    `[host."${origin}"]`,
    '  capabilities = ["pull", "resolve"]',
  ]);
}

function registriesYaml({ origin, names }: Client): string[] {
  return ["mirrors:", ...names.flatMap(({ host }) => [`  "${host}":`, "    endpoint:", `      - "${origin}"`])];
}

/** podman puts the location in front of the name and sends no `ns` (protocol R184). */
function forPodman({ host, isHttp, names }: Client): string[] {
  const mirrors = names.flatMap((name) => [
    "",
    "[[registry]]",
    `prefix = "${name.host}"`,
    `location = "${name.host}"`,
    "[[registry.mirror]]",
    `location = "${host}/${name.host}"`,
    ...(isHttp ? ["insecure = true"] : []),
  ]);
  return ["# /etc/containers/registries.conf.d/layover.conf (podman, buildah, skopeo, CRI-O)", ...mirrors];
}

/** The path names the registry for versions that send no `ns` (protocol R192). */
function forBuildkit({ host, isHttp, names }: Client): string[] {
  const mirrors = names.flatMap((name) => [`[registry."${name.host}"]`, `  mirrors = ["${host}/${name.host}"]`]);
  return [
    "# buildkitd.toml, then: docker buildx create --use --config buildkitd.toml",
    ...mirrors,
    ...(isHttp ? [`[registry."${host}"]`, "  http = true"] : []),
  ];
}

function forKind(client: Client): string[] {
  return [
    "# kind.yaml, then: kind create cluster --config kind.yaml",
    ...insideContainers(client),
    "kind: Cluster",
    "apiVersion: kind.x-k8s.io/v1alpha4",
    "nodes:",
    "  - role: control-plane",
    "    extraMounts:",
    "      - hostPath: ./certs.d",
    "        containerPath: /etc/containerd/certs.d",
    "# Before kind 0.27 also:",
    "# containerdConfigPatches:",
    "#   - |-",
    '#     [plugins."io.containerd.grpc.v1.cri".registry]',
    '#       config_path = "/etc/containerd/certs.d"',
    "",
    ...hostsFiles("./certs.d", client),
  ];
}

/** localhost inside a node is the node. */
function insideContainers({ host }: Client): string[] {
  if (!/^(localhost|127\.|\[::1\])/.test(host)) return [];
  return [`# ${host} is not reachable from inside the nodes: give this machine's name with --public-url`];
}
