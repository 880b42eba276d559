/** What the tests of the upstream client share: registries made of URLs, requests with defaults, and a client that is closed again. */
import { afterEach } from "bun:test";
import { createPlainRegistry, type Registry, type Upstream } from "../../../src/registry/registry.ts";
import {
  createUpstreamClient,
  type Credential,
  type Identity,
  type UpstreamClient,
  type UpstreamDependencies,
  type UpstreamNotice,
  type UpstreamOptions,
  type UpstreamRequest,
  type UpstreamResponse,
} from "../../../src/upstream/client.ts";
import { createFakeRegistry, type FakeRegistry, type FakeRegistryOptions } from "../../support/fake-registry.ts";

const closers: (() => Promise<void> | void)[] = [];

/** Closes everything the test opened, newest first; a fake registry throws when an answer was left unread. */
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export function closeAfter(close: () => Promise<void> | void): void {
  closers.push(close);
}

export async function fakeRegistry(options: FakeRegistryOptions = {}): Promise<FakeRegistry> {
  const registry = await createFakeRegistry(options);
  closeAfter(() => registry.close());
  return registry;
}

export interface TestClient extends UpstreamClient {
  readonly notices: UpstreamNotice[];
}

export function testClient(
  options: Partial<UpstreamOptions> = {},
  dependencies: UpstreamDependencies = {},
): TestClient {
  const notices: UpstreamNotice[] = [];
  const client = createUpstreamClient(
    { version: "0.0.0-test", ...options },
    { random: () => 0, sleep: async () => undefined, notice: (event) => void notices.push(event), ...dependencies },
  );
  closeAfter(() => client.close());
  return { ...client, notices };
}

export function upstreamAt(url: string, namePrefix = ""): Upstream {
  const { origin, pathname } = new URL(url);
  return { origin, basePath: pathname === "/" ? "" : pathname, namePrefix };
}

/** A registry whose upstreams are these URLs, in this order. */
export function registryAt(urls: string | [string, ...string[]], changes: Partial<Registry> = {}): Registry {
  const [first, ...others] = typeof urls === "string" ? [urls] : urls;
  const upstreams = others.map((url) => upstreamAt(url));
  return { ...createPlainRegistry("fake", [upstreamAt(first as string), ...upstreams]), ...changes };
}

export const anonymous: Identity = { kind: "anonymous" };

export function credentialAt(url: string, username: string, password: string): Credential {
  return { origin: new URL(url).origin, id: `id of ${username}`, username, password };
}

export function userAt(url: string, username: string, password: string): Identity {
  return { kind: "credential", credential: credentialAt(url, username, password) };
}

/** A request for `library/busybox:latest`, changed as told. */
export function ask(registry: Registry, changes: Partial<UpstreamRequest> = {}): UpstreamRequest {
  return {
    registry,
    repository: "library/busybox",
    method: "GET",
    path: "manifests/latest",
    query: "",
    headers: [],
    identity: anonymous,
    signal: new AbortController().signal,
    deadlineMs: performance.now() + 5_000,
    ...changes,
  };
}

/** The whole body; an empty one for null. */
export async function bytesOf({ body }: Pick<UpstreamResponse, "body">): Promise<Uint8Array> {
  return body === null ? new Uint8Array() : new Uint8Array(await new Response(body).arrayBuffer());
}

/** What a promise was rejected with. */
export async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected a rejection, got a value");
}
