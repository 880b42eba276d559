/**
 * One budget from a request to its header block, over everything that may be slow behind it (protocol R174, R258). The budget
 * is a tenth of a second and more here instead of 25 s: what counts is that no stage has a time of its own beside it.
 */
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { createDownloads } from "../../../src/download/downloads.ts";
import { RegistryError } from "../../../src/errors.ts";
import { createClientLimits } from "../../../src/proxy/client-limits.ts";
import { createPush } from "../../../src/proxy/push.ts";
import { createUploadLocations } from "../../../src/proxy/upload-location.ts";
import { createPull } from "../../../src/proxy/pull.ts";
import { createRegistryHandler } from "../../../src/http/registry.ts";
import { createAccess } from "../../../src/proxy/access.ts";
import { createLoginLimit } from "../../../src/proxy/login-limit.ts";
import { createClients } from "../../../src/proxy/client.ts";
import type { Reply } from "../../../src/proxy/exchange.ts";
import { createOriginReader } from "../../../src/proxy/origin.ts";
import { createCredentials } from "../../../src/upstream/credentials.ts";
import { createSealer } from "../../../src/proxy/seal.ts";
import { createRegistryMap } from "../../../src/registry/registry.ts";
import { HEADER_BUDGET_MS } from "../../../src/server.ts";
import { createUpstreamClient, type UpstreamClient } from "../../../src/upstream/client.ts";
import { exchangeWith, type ExchangeFacts } from "../../support/exchange.ts";
import { createFakeRegistry, type FakeRegistry } from "../../support/fake-registry.ts";
import { layerOf } from "../../support/farm.ts";
import { makeImage } from "../../support/images.ts";
import { registryAt } from "../upstream/fixture.ts";

const BUDGET_MS = 300;
/** Far below the next time limit of any stage, which is a second or more. */
const SLACK_MS = 600;

const image = makeImage({ layers: [50_000] });
const layer = layerOf(image);
const first = await createFakeRegistry({ auth: "bearer" });
const second = await createFakeRegistry();
for (const registry of [first, second]) registry.add("org/app", image);
const upstream = createUpstreamClient({ version: "0.0.0-test" });

beforeEach(() => {
  first.reset();
  second.reset();
});
afterAll(async () => {
  for (const registry of [first, second]) registry.reset();
  await upstream.close();
  await Promise.all([first.close(), second.close()]);
});

/** The handler of one registry, whose upstreams are these. */
function handlerOf(client: UpstreamClient, ...urls: [string, ...string[]]) {
  const registry = registryAt(urls);
  const map = createRegistryMap([registry], registry);
  const sealer = createSealer(new Uint8Array(32));
  const originOf = createOriginReader({
    publicUrl: undefined,
    domainSuffix: undefined,
    trustedProxies: [],
    forceHttp: false,
  });
  const access = createAccess(
    { sharePrivate: false, pseudonym: "layover-test" },
    { upstream: client, credentialOf: createCredentials().current, fingerprint: sealer.fingerprint },
  );
  return createRegistryHandler(
    { pseudonym: "layover-test", headerBudgetMs: BUDGET_MS },
    {
      map: () => map,
      routing: () => ({ domainSuffix: undefined, strictHosts: false }),
      originOf,
      clients: createClients({ sealer, map: () => map, now: Date.now }),
      access,
      pull: createPull({ access, downloads: createDownloads({ idleTimeoutMs: 5000 }), cache: undefined }),
      limits: createClientLimits({ requests: undefined, transfers: undefined }, () => performance.now()),
      loginLimit: createLoginLimit(() => performance.now()),
      push: createPush(
        { allowPush: false, pseudonym: "layover-test" },
        {
          access,
          upstream: client,
          map: () => map,
          locations: createUploadLocations(sealer),
          changed: () => undefined,
        },
      ),
    },
  );
}

/** Status and time of the answer to a request of `org/app`. */
async function timed(path: string, facts: ExchangeFacts = {}, ...urls: string[]) {
  const startedAtMs = performance.now();
  const exchange = exchangeWith({ ...facts, path: `/v2/org/app/${path}` });
  const reply = await handlerOf(upstream, first.url, ...urls)(exchange).catch(errorOf);
  return { reply, status: reply?.status, elapsedMs: performance.now() - startedAtMs };
}

function errorOf(error: unknown): Pick<Reply, "status"> & { readonly body: null } {
  if (error instanceof RegistryError) return { status: error.status, body: null };
  throw error;
}

type Stage = (registry: FakeRegistry) => void;

describe("the budget holds", () => {
  const stages: [title: string, path: string, stage: Stage, status: number][] = [
    ["a manifest's head", "manifests/latest", ({ faults }) => (faults.manifest.stallBeforeHeaders = true), 503],
    ["a manifest's body", "manifests/latest", ({ faults }) => (faults.manifest.stallAfterBytes = 10), 503],
    ["a manifest's first byte", "manifests/latest", ({ faults }) => (faults.manifest.stallAfterBytes = 0), 503],
    ["a blob's head", `blobs/${layer}`, ({ faults }) => (faults.blob.stallBeforeHeaders = true), 503],
    ["a list's body", "tags/list", ({ faults }) => (faults.tags.stallAfterBytes = 5), 503],
    ["the body of referrers", `referrers/${image.digest}`, ({ faults }) => (faults.referrers.stallAfterBytes = 5), 503],
    ["the token server's head", "manifests/latest", ({ faults }) => (faults.token.stallBeforeHeaders = true), 503],
    ["the token server's body", "manifests/latest", ({ faults }) => (faults.token.stallAfterBytes = 5), 503],
    [
      "the host of a redirect",
      `blobs/${layer}`,
      ({ faults }) => {
        faults.blob.redirect = { hops: 2 };
        faults.cdn.stallBeforeHeaders = true;
      },
      503,
    ],
    [
      "the body of an error",
      "manifests/latest",
      ({ faults }) => Object.assign(faults.manifest, { status: 404, stallAfterBytes: 3 }),
      404,
    ],
  ];
  test.each(stages)("[R174, R258, T4] when %s does not come", async (_title, path, stage, status) => {
    stage(first);
    const answer = await timed(path);
    expect(answer.status).toBe(status);
    expect(answer.elapsedMs).toBeLessThan(BUDGET_MS + SLACK_MS);
    expect(answer.elapsedMs).toBeGreaterThan(BUDGET_MS / 2);
  });

  test("[R174, R258] for a HEAD that becomes a GET whose body does not come", async () => {
    first.faults.manifest.headStatus = 405;
    first.faults.manifest.stallAfterBytes = 10;
    const answer = await timed("manifests/latest", { method: "HEAD" });
    expect(answer.status).toBe(503);
    expect(answer.elapsedMs).toBeLessThan(BUDGET_MS + SLACK_MS);
  });

  test("[R258, R262] over every upstream and every retry together", async () => {
    first.faults.manifest.status = 503;
    second.faults.manifest.stallBeforeHeaders = true;
    const answer = await timed("manifests/latest", {}, second.url);
    expect(answer.status).toBe(503);
    expect(answer.elapsedMs).toBeLessThan(BUDGET_MS + SLACK_MS);
  });

  test("[R174] and a blob whose body waits has its header block at once", async () => {
    first.faults.blob.stallAfterBytes = 0;
    const { reply, status, elapsedMs } = await timed(`blobs/${layer}`);
    expect(status).toBe(200);
    expect(elapsedMs).toBeLessThan(BUDGET_MS);
    first.release();
    expect(reply?.body instanceof ReadableStream && (await new Response(reply.body).bytes()).byteLength).toBe(50_000);
  });
});

test("[R174, R258] the program's budget is 25 s, below the 30 s that containerd waits", () => {
  expect(HEADER_BUDGET_MS).toBe(25_000);
});
