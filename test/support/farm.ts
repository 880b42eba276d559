/**
 * The set-up most end-to-end tests share: Layover as a child process in front of four fake registries.
 *
 * - `hub` stands in for Docker Hub: token auth, the default registry
 * - `quay` asks nobody anything
 * - `ghcr` wants tokens, with a placeholder scope in its challenges
 * - `basic` knows only Basic
 *
 * alice:secret may read everything everywhere; `org/private` is closed to others; bob:hunter2 may read `org/bobs` only.
 */
import { type FakeRegistry, createFakeRegistry } from "./fake-registry.ts";
import { type Image, makeImage } from "./images.ts";
import { type LayoverOptions, type RunningLayover, startLayover } from "./layover.ts";

export interface Farm {
  readonly layover: RunningLayover;
  readonly hub: FakeRegistry;
  readonly quay: FakeRegistry;
  readonly ghcr: FakeRegistry;
  readonly basic: FakeRegistry;
  /** Each registry's `org/app` (Hub: `library/app` too) differs from the others'. */
  readonly images: {
    readonly hub: Image;
    readonly quay: Image;
    readonly ghcr: Image;
    readonly basic: Image;
    readonly secret: Image;
  };
  ask(path: string, options?: AskOptions): Promise<Response>;
  /** A token of ours: anonymous, or for a login `"user:password"`. */
  token(path: string, login?: string): Promise<string>;
  reset(): void;
  stop(): Promise<void>;
}

export interface AskOptions {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly signal?: AbortSignal;
}

const USERS = { alice: { password: "secret" }, bob: { password: "hunter2", repositories: ["org/bobs"] } };
const PRIVATE = ["org/private", "org/bobs"];

export interface FarmOptions extends LayoverOptions {
  /** Fields added to the map's entries, by key: `{ hub: { allow: ["org/**"] } }`; `default` is the map's own. */
  readonly entries?: Record<string, Record<string, unknown>>;
  /** A second upstream, by key. */
  readonly mirrors?: Record<string, string>;
}

export async function startFarm(options: FarmOptions = {}): Promise<Farm> {
  const closed = { users: USERS, privateRepositories: PRIVATE };
  const [hub, quay, ghcr, basic] = await Promise.all([
    createFakeRegistry({ auth: "bearer", ...closed }),
    createFakeRegistry(),
    createFakeRegistry({ auth: "bearer", ...closed }),
    createFakeRegistry({ auth: "basic", ...closed }),
  ]);
  ghcr.faults.auth.placeholderScope = true;
  const images = {
    hub: makeImage({ seed: "hub", layers: [70_000, 10] }),
    quay: makeImage({ seed: "quay", layers: [50_000], mediaTypes: "docker" }),
    ghcr: makeImage({ seed: "ghcr" }),
    basic: makeImage({ seed: "basic" }),
    secret: makeImage({ seed: "secret", layers: [4000] }),
  };
  hub.add("library/app", images.hub);
  hub.add("org/app", images.hub);
  for (const [registry, image] of [
    [quay, images.quay],
    [ghcr, images.ghcr],
    [basic, images.basic],
  ] as const)
    registry.add("org/app", image);
  for (const registry of [hub, ghcr, basic]) registry.add("org/private", images.secret);
  const entry = (key: string, registry: FakeRegistry, host: string) => ({
    [key]: {
      upstreams: [registry.url, ...(options.mirrors?.[key] === undefined ? [] : [options.mirrors[key]])],
      hosts: [host],
      ...options.entries?.[key],
    },
  });
  const map = {
    default: "hub",
    ...entry("hub", hub, "docker.io"),
    ...entry("quay", quay, "quay.io"),
    ...entry("ghcr", ghcr, "ghcr.io"),
    ...entry("basic", basic, "basic.test"),
    ...options.map,
  };
  const layover = await startLayover({ ...options, map });

  function ask(path: string, { method = "GET", headers = {}, body, signal }: AskOptions = {}): Promise<Response> {
    return fetch(`${layover.url}${path}`, {
      method,
      headers: {
        accept:
          "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, */*",
        ...headers,
      },
      redirect: "manual",
      decompress: false,
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  return {
    layover,
    hub,
    quay,
    ghcr,
    basic,
    images,
    ask,
    async token(path, login) {
      const headers = login === undefined ? {} : { authorization: basicHeader(login) };
      const response = await ask(path, { headers });
      if (response.status !== 200)
        throw new Error(`expected a token, got ${response.status}: ${await response.text()}`);
      const { token } = (await response.json()) as { token: string };
      return token;
    },
    reset() {
      for (const registry of [hub, quay, ghcr, basic]) registry.reset();
      ghcr.faults.auth.placeholderScope = true;
    },
    async stop() {
      await layover.stop();
      await Promise.all([hub, quay, ghcr, basic].map((registry) => registry.close()));
    },
  };
}

export function basicHeader(login: string): string {
  return `Basic ${Buffer.from(login).toString("base64")}`;
}

/** The digest of an image's first layer. */
export function layerOf(image: Image): string {
  const digest = [...image.blobs.entries()].sort(([, a], [, b]) => b.byteLength - a.byteLength)[0]?.[0];
  if (digest === undefined) throw new Error("expected an image with a layer");
  return digest;
}
