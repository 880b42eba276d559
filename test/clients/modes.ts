/** Every way of using Layover for a pull, and which images each client is tried with (product section 1, protocol R190). */
import type { Client, Setup } from "./client.ts";
import { DOMAIN, PLAIN_HOST } from "./lab.ts";

export interface Mode {
  readonly name: string;
  readonly setup: Setup;
  /** `"lab/multi:latest"` → what the client is asked to pull. */
  reference(image: string): string;
  /** Reaches only some images: docker.io has no names of one component. */
  readonly fits?: (image: string) => boolean;
}

/** The upstream that everything is compared with: open, no redirects. */
export const DIRECT_HOST = "127.0.0.1:5102";
export const DIRECT: Setup = { plainHosts: [DIRECT_HOST] };

const plainHosts = [PLAIN_HOST, `quay.${PLAIN_HOST}`, `docker.${PLAIN_HOST}`, `k8s.${PLAIN_HOST}`];
const plain: Setup = { plainHosts };
const isInHub = (image: string): boolean => image.includes("/");

const NAME_MODES: readonly Mode[] = [
  { name: "path, key", setup: plain, reference: (image) => `${PLAIN_HOST}/quay/${image}`, fits: isInHub },
  { name: "path, host name", setup: plain, reference: (image) => `${PLAIN_HOST}/quay.io/${image}` },
  { name: "path, host with tokens and TLS", setup: plain, reference: (image) => `${PLAIN_HOST}/ghcr.io/${image}` },
  {
    name: "path, single name",
    setup: plain,
    reference: (image) => `${PLAIN_HOST}/k8s/${image}`,
    fits: (image) => !isInHub(image),
  },
  { name: "host", setup: plain, reference: (image) => `quay.${PLAIN_HOST}/${image}` },
  { name: "host, TLS", setup: { plainHosts: [] }, reference: (image) => `quay.${DOMAIN}/${image}` },
  {
    name: "default registry, tokens and CDN",
    setup: plain,
    reference: (image) => `${PLAIN_HOST}/${image}`,
    fits: isInHub,
  },
  {
    name: "default registry, TLS",
    setup: { plainHosts: [] },
    reference: (image) => `${DOMAIN}/${image}`,
    fits: isInHub,
  },
];

/** What this client can be told, names and mirrors. */
export function modesOf(client: Client): Mode[] {
  const url = `http://${PLAIN_HOST}`;
  const registries = ["docker.io", "quay.io", "ghcr.io"].filter(
    (registry) => (client.mirrorsOnly ?? registry) === registry,
  );
  const mirrors = client.mirrorForms.flatMap((form) =>
    registries
      // Without ns or a path, a mirror at the root can only mean the default registry.
      .filter((registry) => registry === "docker.io" || form !== "root" || client.name.startsWith("containerd"))
      .map((registry): Mode => ({
        name: `mirror ${form}, ${registry}`,
        setup: { plainHosts, mirror: { registry, form, url } },
        reference: (image) => `${registry}/${image}`,
        ...(registry === "docker.io" && { fits: isInHub }),
      })),
  );
  const tls = client.mirrorForms.slice(0, 1).map((form): Mode => ({
    name: `mirror ${form}, TLS`,
    setup: { plainHosts: [], mirror: { registry: "docker.io", form, url: `https://${DOMAIN}` } },
    reference: (image) => `docker.io/${image}`,
    fits: isInHub,
  }));
  return [...NAME_MODES, ...mirrors, ...tls];
}

/** The mode that people use this client in most; the short form tries every image in it. */
export function usualModeOf(client: Client): string {
  if (client.name.startsWith("containerd")) return "mirror root, quay.io";
  return client.name.startsWith("docker") ? "mirror root, docker.io" : "path, host name";
}

export const IMAGES = [
  "library/busybox:latest",
  "pause:3.9",
  "lab/multi:latest",
  "lab/schema2:latest",
  "lab/schema2-list:latest",
  "lab/many:latest",
  "lab/tiny:latest",
  "lab/zstd:latest",
  "lab/nested:latest",
  "lab/zero:latest",
  "lab/chart:0.1.0",
  "lab/big:latest",
] as const;

/** What clients cannot do straight from the upstream either; anything else that fails there is a fault of the suite. */
export function isBeyond(client: string, image: string): boolean {
  const family = client.replace(/-(ctr|cri)$/, "");
  const limits: Record<string, readonly string[]> = {
    skopeo: ["lab/nested:latest"],
    podman: ["lab/nested:latest", "lab/zero:latest", "lab/chart:0.1.0"],
    buildah: ["lab/nested:latest", "lab/zero:latest", "lab/chart:0.1.0"],
    containerd: ["lab/zero:latest", "lab/chart:0.1.0"],
    containerd2: ["lab/zero:latest"],
    docker: ["lab/zstd:latest", "lab/nested:latest", "lab/zero:latest", "lab/chart:0.1.0"],
    docker29: ["lab/zero:latest"],
    crane: [],
  };
  if (family === "helm") return !image.startsWith("lab/chart");
  return (limits[family] ?? []).includes(image);
}
