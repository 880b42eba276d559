/** How asking for an old grant again bears on what is known of its registry. */
import { describe, expect, test } from "bun:test";
import { RegistryError } from "../../../src/errors.ts";
import type { Reader, ReaderAnswer, RegistryRequest } from "../../../src/proxy/access.ts";
import { createGrants } from "../../../src/proxy/grants.ts";
import { createOutages } from "../../../src/proxy/outage.ts";
import { parseEndpoint } from "../../../src/registry/endpoint.ts";
import { createPlainRegistry } from "../../../src/registry/registry.ts";
import { exchangeWith } from "../../support/exchange.ts";
import { upstreamAt } from "../upstream/fixture.ts";

const PROOF = `sha256:${"a".repeat(64)}`;
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const upstream = upstreamAt("https://one.test");
const registry = createPlainRegistry("one", [upstream]);
const reader: Reader = {
  kind: "holder",
  holder: "own somebody",
  origin: upstream.origin,
  credential: () => Promise.reject(new Error("no credential is shown in this test")),
};

function requestFor(): RegistryRequest & { readonly reader: Reader } {
  const path = `/v2/org/app/manifests/${PROOF}`;
  const endpoint = parseEndpoint(path);
  if (endpoint === undefined) throw new Error(`expected an endpoint, got ${path}`);
  return {
    exchange: exchangeWith({ path }),
    origin: { secure: false, host: undefined, base: "http://layover.test", client: "127.0.0.1" },
    endpoint,
    route: { registry, repository: "org/app", requested: "org/app", pathPrefix: "", namespace: undefined },
    client: { kind: "none" },
    sharedHost: "own",
    deadlineMs: performance.now() + 1_000,
    reader,
  };
}

/** Grants of a reader whose own is old, and whose registry answers as told. */
function start(answers: (Partial<ReaderAnswer> | RegistryError)[]) {
  const clock = { ms: 0 };
  const asked: string[] = [];
  const outages = createOutages({ now: () => clock.ms, mayAsk: () => true });
  let grant: { proof: string; checkedMs: number } | undefined = { proof: PROOF, checkedMs: 0 };
  const records = {
    grant: () => grant,
    setGrant: (_place: unknown, _holder: string, fresh: { proof: string; checkedMs: number }) => void (grant = fresh),
    dropGrant: () => void (grant = undefined),
  };
  const access = {
    readerOf: () => reader,
    askAs: async (_reader: unknown, _request: unknown, { method }: { readonly method: string }) => {
      asked.push(method);
      const answer = answers.shift();
      if (answer === undefined || answer instanceof RegistryError)
        throw answer ?? new Error("expected no more questions");
      const headers = new Headers({ "content-type": MANIFEST });
      const identity = { kind: "anonymous" } as const;
      const rest = { body: null, upstream, identity, elapsedMs: 1, isProof: true, isStandIn: false };
      return { status: 200, headers, ...rest, ...answer };
    },
  };
  const cache = { outages, records, now: () => clock.ms, log: { debug: () => undefined } };
  return { clock, asked, outages, grants: createGrants({ ttlMs: 60_000 }, cache, access) };
}

const DEAD = new RegistryError("UNAVAILABLE", "dead for this test", { status: 503 });

/** What nobody waits for has come to its end. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("holds() of an old grant", () => {
  test.each([
    ["200", {}, true],
    ["200 of something else", { headers: new Headers({ "content-type": "text/html" }) }, true],
    ["401", { status: 401 }, false],
    ["404", { status: 404 }, false],
    ["405, which says nothing about the grant", { status: 405 }, true],
  ])("[T9] ends the outage of its registry with %s", async (_title, answer, expected) => {
    const { clock, asked, outages, grants } = start([DEAD, answer]);
    clock.ms = 100_000;
    expect([await grants.holds(requestFor()), outages.isFailing(requestFor().route)]).toEqual([true, true]);
    clock.ms += 30_000;
    expect(await grants.holds(requestFor())).toBe(true); // nobody waits while it is in trouble
    await settled();
    expect([asked, outages.isFailing(requestFor().route)]).toEqual([["HEAD", "HEAD"], false]);
    expect(grants.isKnown(requestFor())).toBe(expected);
  });

  test.each([200, 401, 404, 405])("is no outage when its registry answers %d", async (status) => {
    const { clock, outages, grants } = start([{ status }]);
    clock.ms = 100_000;
    await grants.holds(requestFor());
    expect(outages.isFailing(requestFor().route)).toBe(false);
  });

  test("[T9] asks once a window while its registry is down", async () => {
    const { clock, asked, grants } = start([DEAD, DEAD, DEAD]);
    clock.ms = 100_000;
    for (let second = 0; second < 65; second++) {
      expect(await grants.holds(requestFor())).toBe(true);
      clock.ms += 1_000;
    }
    expect(asked).toHaveLength(3);
  });

  test("neither renews it nor ends an outage when a stand-in answered", async () => {
    const { clock, asked, outages, grants } = start([{ isStandIn: true }, { isStandIn: true }]);
    clock.ms = 100_000;
    outages.failed(requestFor().route, DEAD);
    clock.ms += 30_000;
    expect(await grants.holds(requestFor())).toBe(true);
    await settled();
    expect(outages.isFailing(requestFor().route)).toBe(true);
    clock.ms += 24 * 60 * 60_000;
    expect([await grants.holds(requestFor()), asked.length]).toEqual([false, 2]);
  });
});
