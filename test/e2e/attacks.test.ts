/**
 * Ways to come by somebody else's private content or name through Layover, each tried as an attacker would. What a client
 * may ask outright, and the answers to it, are in leak-matrix.test.ts; where logins go in login.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { createSealer } from "../../src/proxy/seal.ts";
import { type Cached, startCached } from "../support/cached.ts";
import { type FakeRegistry, createFakeRegistry } from "../support/fake-registry.ts";
import { basicHeader, layerOf } from "../support/farm.ts";
import { MEDIA_TYPES, digestOf, encode, makeImage, single } from "../support/images.ts";
import { rawRequest } from "../support/raw-http.ts";
import { createTempDir } from "../support/temp-dir.ts";

const PRIVATE = "/v2/ghcr/org/private";

describe("another upstream of the registry", () => {
  test("[R246, R245] that shows a repository of that name to everybody opens nothing of the first one's", async () => {
    await using mirror = await mirrorWith("org/private");
    await using own = await startCached({ seed: "mirrored", mirrors: { ghcr: mirror.registry.url } });
    const { secret, layer } = secretOf(own);
    await pullAs(own, await alice(own));
    own.farm.ghcr.goDown();
    await own.layover.stop(); // a refusal is remembered for a minute
    await own.restart();
    const shown = await own.pull(`${PRIVATE}/manifests/latest`);
    expect([shown.status, digestOf(shown.body)]).toEqual([200, mirror.image.digest]);
    for (const what of [`blobs/${layer}`, `manifests/${secret.digest}`]) {
      const stolen = await own.pull(`${PRIVATE}/${what}`);
      expect([stolen.status, holds(stolen.body, secret.blobs.get(layer))]).toEqual([503, false]); // known dead by now
    }
  });

  test.each(["with a cache", "without"])("[R248] learns no private name and no credential, %s", async (which) => {
    await using mirror = await mirrorWith("org/app");
    await using own = await startCached({
      seed: "named",
      mirrors: { ghcr: mirror.registry.url },
      isCached: which === "with a cache",
    });
    const authorization = await alice(own);
    const { layer } = secretOf(own);
    const { ghcr } = own.farm;
    const paths = ["manifests/latest", `blobs/${layer}`, "tags/list", `referrers/${layer}`, "manifests/none"];
    const askAll = async () => {
      for (const what of paths) await own.pull(`${PRIVATE}/${what}`, authorization);
    };
    await askAll();
    for (const kind of ["manifest", "blob", "tags", "referrers"] as const) ghcr.faults[kind].status = 503;
    await askAll();
    ghcr.goDown();
    await askAll();
    await own.pull("/v2/ghcr/org/private-too/manifests/latest", authorization);
    expect(await own.pull("/v2/ghcr/org/app/manifests/latest")).toMatchObject({ status: 200 });
    const seen = JSON.stringify([...mirror.registry.requests, ...mirror.registry.tokenRequests].map(everything));
    expect(seen).toContain("org/app");
    expect(seen).not.toContain("org/private");
    expect(seen).not.toMatch(/authorization/i);
  });
});

describe("a manifest of one's own", () => {
  test.each([
    ["a layer", (layer: string) => manifestOf([{ mediaType: MEDIA_TYPES.ociLayer, digest: layer, size: 4000 }])],
    ["a nondistributable layer", (layer: string) => manifestOf([foreignLayer(layer)])],
  ])("[R245, R249] that names somebody's private content as %s gives it to nobody", async (_what, make) => {
    await using own = await startCached({ seed: "claims" });
    const { layer } = secretOf(own);
    await pullAs(own, await alice(own));
    own.farm.ghcr.add("org/evil", single(make(layer), MEDIA_TYPES.ociManifest, new Map()));
    await expectNothing(own, "/v2/ghcr/org/evil", [`blobs/${layer}`]);
  });

  test("[R245] that names somebody's private manifest as an index child gives it to nobody", async () => {
    await using own = await startCached({ seed: "children" });
    const { secret, layer } = secretOf(own);
    await pullAs(own, await alice(own));
    const child = { mediaType: secret.mediaType, digest: secret.digest, size: 500, platform: secret.platform };
    const index = encode({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [child] });
    own.farm.ghcr.add("org/evil", single(index, MEDIA_TYPES.ociIndex, new Map()));
    await expectNothing(own, "/v2/ghcr/org/evil", [`manifests/${secret.digest}`, `blobs/${layer}`]);
  });
});

describe("what is forgotten", () => {
  test("[R245, R233] a cache without its records shows nothing private, not even to whoever could", async () => {
    await using own = await startCached({
      seed: "forgotten",
      args: [`--state-dir=${(await createTempDir("s-")).path}`],
    });
    const { secret, layer } = secretOf(own);
    const authorization = await alice(own);
    await pullAs(own, authorization);
    await own.layover.stop();
    for (const name of await readdir(own.directory))
      if (name.startsWith("records.sqlite")) await rm(path.join(own.directory, name));
    await own.restart();
    own.farm.ghcr.faults.manifest.status = 503;
    own.farm.ghcr.faults.blob.status = 503;
    for (const headers of [{}, authorization])
      for (const what of ["manifests/latest", `manifests/${secret.digest}`, `blobs/${layer}`]) {
        const answer = await own.pull(`${PRIVATE}/${what}`, headers);
        expect([answer.status === 200, holds(answer.body, secret.blobs.get(layer))]).toEqual([false, false]);
      }
  });

  test("[R240, R243] a tag that is hidden from one is not absent for another, nor the other way round", async () => {
    await using own = await startCached({ seed: "hidden" });
    const { ghcr, images } = own.farm;
    ghcr.add("org/hides", images.secret);
    // Some registries give everybody a token and call what it does not open absent.
    ghcr.faults.manifest = {
      status: 404,
      match: ({ headers }) => {
        const shown = ghcr.access.bearer(headers.get("authorization"));
        return shown !== undefined && shown !== "bad" && shown.user === undefined;
      },
    };
    const authorization = await alice(own);
    const statuses = [];
    for (const headers of [{}, authorization, {}, authorization, {}])
      statuses.push((await own.pull("/v2/ghcr/org/hides/manifests/latest", headers)).status);
    expect(statuses).toEqual([404, 200, 404, 200, 404]);
    expect((await own.pull(`/v2/ghcr/org/hides/manifests/${images.secret.digest}`)).status).toBe(404);
    expect((await own.pull(`/v2/ghcr/org/hides/blobs/${layerOf(images.secret)}`)).status).not.toBe(206);
  });
});

test("[R97, R112] a long private pull outlives its token here and the one upstream", async () => {
  await using state = await stateDir();
  await using own = await startCached({ seed: "long", args: [`--state-dir=${state.path}`] });
  const { ghcr } = own.farm;
  const image = makeImage({ seed: "long", layers: [3_000_000] });
  ghcr.add("org/private", image);
  const layer = layerOf(image);
  const authorization = await shortLived(own, state.path);
  await own.pull(`${PRIVATE}/manifests/${image.digest}`, { authorization });
  Object.assign(ghcr.faults.blob, { stallAfterBytes: 1_000_000, cutAfterBytes: 1_000_000, times: 1 });
  const pulling = own.pull(`${PRIVATE}/blobs/${layer}`, { authorization });
  await ghcr.untilHeld(1);
  const tokensBefore = ghcr.tokenRequests.length;
  while ((await own.ask("/v2/", { headers: { authorization } })).status === 200);
  ghcr.expireTokens();
  ghcr.release();
  const { status, body } = await pulling;
  expect([status, digestOf(body)]).toEqual([200, layer]);
  expect(ghcr.tokenRequests.length).toBeGreaterThan(tokensBefore);
  expect((await own.pull(`${PRIVATE}/blobs/${layer}`)).status).toBe(401);
});

test("[R123, R246] --share-private lends nobody the right to write", async () => {
  const credentials = [{ username: "alice", password: "secret" }];
  await using own = await startCached({
    seed: "writes",
    args: ["--share-private", "--allow-push"],
    entries: { ghcr: { credentials } },
  });
  const { ghcr } = own.farm;
  expect((await own.pull(`${PRIVATE}/manifests/latest`)).status).toBe(200);
  ghcr.requests.length = 0;
  const manifest = own.farm.images.secret.manifests.get(own.farm.images.secret.digest)?.bytes ?? new Uint8Array();
  const writes = [
    ["POST", `${PRIVATE}/blobs/uploads/`],
    ["PUT", `${PRIVATE}/manifests/mine`],
    ["DELETE", `${PRIVATE}/manifests/${own.farm.images.secret.digest}`],
  ] as const;
  const token = await own.farm.token("/token/ghcr", "bob:hunter2");
  for (const headers of [{}, { authorization: `Bearer ${token}` }, { authorization: basicHeader("bob:hunter2") }])
    for (const [method, target] of writes) {
      const body = method === "PUT" ? Uint8Array.from(manifest) : null;
      const answer = await own.ask(target, { method, headers, body });
      expect([401, 403, 404]).toContain(answer.status);
      await answer.bytes();
    }
  expect(JSON.stringify(ghcr.requests.map(everything))).not.toContain(`Basic ${btoa("alice:secret")}`);
  const pushTokens = ghcr.tokenRequests.filter(({ query }) => /push|delete/.test(query));
  expect(pushTokens.filter(({ headers }) => headers.get("authorization") !== null)).toEqual([]);
});

test("[R245] a second process on the same directory, with a key of its own, shows nobody what the first may", async () => {
  await using own = await startCached({ seed: "second" });
  const { secret, layer } = secretOf(own);
  const authorization = await alice(own);
  await pullAs(own, authorization);
  await own.restart(); // the first goes on
  own.farm.ghcr.goDown();
  for (const headers of [{}, authorization, { authorization: basicHeader("ghcr/alice:secret") }])
    for (const what of ["manifests/latest", `manifests/${secret.digest}`, `blobs/${layer}`]) {
      const answer = await own.pull(`${PRIVATE}/${what}`, headers);
      expect([answer.status === 200, holds(answer.body, secret.blobs.get(layer))]).toEqual([false, false]);
    }
  await own.farm.layover.stop();
});

test("[R122, R92] several Authorization lines or schemes open nothing that one of them would not", async () => {
  await using own = await startCached({ seed: "schemes" });
  const { authorization } = await alice(own);
  const basic = basicHeader("alice:wrong");
  const bad = [
    [`${basic}, ${authorization}`],
    [`${authorization}, ${basic}`],
    [basic, authorization],
    [authorization, basic],
    [authorization, authorization],
    [`Digest ${authorization}`],
    ["Bearer"],
    ["Basic"],
    [""],
  ];
  for (const values of bad) {
    const lines = values.map((value) => `Authorization: ${value}`);
    const answer = await rawRequest(own.layover.url, `GET ${PRIVATE}/manifests/latest`, lines);
    expect([400, 401, 403]).toContain(answer.status);
  }
  expect((await own.pull(`${PRIVATE}/manifests/latest`, { authorization })).status).toBe(200);
});

interface Mirror extends AsyncDisposable {
  readonly registry: FakeRegistry;
  readonly image: ReturnType<typeof makeImage>;
}

async function mirrorWith(repository: string): Promise<Mirror> {
  const registry = await createFakeRegistry();
  const image = makeImage({ seed: "mirror" });
  registry.add(repository, image);
  return { registry, image, [Symbol.asyncDispose]: () => registry.close() };
}

/** Logins outlive a restart with it. */
async function stateDir(): Promise<{ path: string } & AsyncDisposable> {
  const dir = await createTempDir("layover-state-");
  return { path: dir.path, [Symbol.asyncDispose]: () => dir.remove() };
}

/** Her token, as it is in the last two seconds of its time. */
async function shortLived(own: Cached, state: string): Promise<string> {
  const sealer = createSealer(Buffer.from((await Bun.file(path.join(state, "token.key")).text()).trim(), "hex"));
  const token = (await alice(own)).authorization.slice("Bearer ".length);
  return `Bearer ${sealer.seal({ ...Object(sealer.open(token)), e: Math.floor(Date.now() / 1000) + 2 })}`;
}

async function alice({ farm }: Cached): Promise<{ authorization: string }> {
  return { authorization: `Bearer ${await farm.token("/token/ghcr", "alice:secret")}` };
}

function secretOf({ farm }: Cached) {
  return { secret: farm.images.secret, layer: layerOf(farm.images.secret) };
}

/** The private image is in the cache, by her who may read it. */
async function pullAs(own: Cached, headers: { authorization: string }): Promise<void> {
  const { secret, layer } = secretOf(own);
  for (const what of ["manifests/latest", `manifests/${secret.digest}`, `blobs/${layer}`])
    expect((await own.pull(`${PRIVATE}/${what}`, headers)).status).toBe(200);
}

/** The attacker's repository is pulled first, as whoever walks into the trap would do it. */
async function expectNothing(own: Cached, repository: string, paths: string[]): Promise<void> {
  const { secret, layer } = secretOf(own);
  const authorization = { authorization: `Bearer ${await own.farm.token("/token/ghcr", "bob:hunter2")}` };
  expect((await own.pull(`${repository}/manifests/latest`)).status).toBe(200);
  for (const what of paths)
    for (const headers of [{}, authorization, { range: "bytes=0-99" }]) {
      const answer = await own.pull(`${repository}/${what}`, headers);
      expect([answer.status, holds(answer.body, secret.blobs.get(layer))]).toEqual([404, false]);
    }
}

/** Whether the bytes are those, or begin with their first hundred. */
function holds(body: Uint8Array, secret: Uint8Array | undefined): boolean {
  return Buffer.from(body).includes(Buffer.from(secret ?? []).subarray(0, 100));
}

function manifestOf(layers: object[]): Uint8Array {
  const config = { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(encode({})), size: 2 };
  return encode({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config, layers });
}

function foreignLayer(digest: string): object {
  const mediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
  return { mediaType, digest, size: 4000, urls: ["https://example.test/layer"] };
}

/** All that a request says. */
function everything({ method, path: target, query, lines, body }: FakeRegistry["requests"][number]): unknown {
  return [method, target, query, lines, body];
}
