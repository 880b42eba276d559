/**
 * What everybody knows about public registries: the names that clients use for them and whose names have one component.
 * Known by URL, and by the key that the older tools gave them, so that `"docker": "https://mirror.example"` is Docker Hub.
 */

interface WellKnown {
  /** Host of the API. */
  readonly api: string;
  readonly keys: readonly string[];
  /** Further hosts that mean the same registry. */
  readonly hosts: readonly string[];
  readonly singleNames?: true;
}

const WELL_KNOWN: readonly WellKnown[] = [
  // Three names and a web host (protocol R126).
  { api: "registry-1.docker.io", keys: ["docker"], hosts: ["docker.io", "index.docker.io", "registry.hub.docker.com"] },
  { api: "registry-1.stage.docker.io", keys: ["docker-staging"], hosts: [] },
  { api: "quay.io", keys: ["quay"], hosts: [] },
  { api: "gcr.io", keys: ["gcr"], hosts: [] },
  { api: "registry.k8s.io", keys: ["k8s"], hosts: [], singleNames: true },
  { api: "k8s.gcr.io", keys: ["k8sgcr", "k8s-gcr"], hosts: [], singleNames: true },
  { api: "ghcr.io", keys: ["ghcr"], hosts: [] },
  { api: "public.ecr.aws", keys: ["ecr"], hosts: [] },
  { api: "docker.cloudsmith.io", keys: ["cloudsmith"], hosts: [] },
  { api: "nvcr.io", keys: ["nvcr"], hosts: [] },
  { api: "registry.gitlab.com", keys: ["gitlab"], hosts: [] },
  { api: "mcr.microsoft.com", keys: ["mcr"], hosts: [], singleNames: true },
];

/** The name that makes a registry Docker Hub. */
export const DOCKER_HUB_HOST = "docker.io";

/** Further names of the registry whose API is at `host`: `"registry-1.docker.io"` → `["docker.io", …]`. */
export function aliasesOfHost(host: string): readonly string[] {
  return WELL_KNOWN.find(({ api }) => api === host)?.hosts ?? [];
}

/** All names of the registry that the older tools called `key`. */
export function hostsOfKey(key: string): readonly string[] {
  const known = WELL_KNOWN.find(({ keys }) => keys.includes(key));
  return known === undefined ? [] : [known.api, ...known.hosts];
}

/** Whether repository names there may have one component (`registry.k8s.io/pause`). */
export function hasSingleNames(hosts: readonly string[]): boolean {
  return WELL_KNOWN.some(({ api, singleNames }) => singleNames === true && hosts.includes(api));
}

/** Whether an origin is Docker Hub itself and not a mirror of it. */
export function isDockerHubOrigin(origin: string): boolean {
  const url = new URL(origin);
  return url.protocol === "https:" && hostsOfKey("docker").includes(url.host);
}
