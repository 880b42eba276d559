/** Another registry of the map gives content by digest while its own cannot; it learns of nothing that is not public. */
import { describe, expect, test } from "bun:test";
import { type Cached, type CachedOptions, ageGrants, keptIn, startCached } from "../support/cached.ts";
import { layerOf } from "../support/farm.ts";
import { digestOf, type Image, makeImage, MEDIA_TYPES } from "../support/images.ts";
import { metricsOf, total, untilTotal } from "../support/metrics.ts";

const ALSO_AT_QUAY = { hub: { alsoAt: ["quay/mirror"] } };
const APP = "/v2/hub/org/app";
const BIG = 3_000_000;

interface Setting {
  readonly own: Cached;
  /** In `org/app` at the hub and in `mirror/org/app` at its stand-in; nobody pulled any of it. */
  readonly image: Image;
  readonly layer: string;
  readonly bytes: Uint8Array;
}

/** The hub's `org/app` is known to be public, and quay stands in for it. */
async function start(options: Partial<CachedOptions> = {}): Promise<Setting> {
  const own = await startCached({ seed: "stand-in", entries: ALSO_AT_QUAY, ...options });
  const image = makeImage({ seed: "stood in for", layers: [BIG], tags: ["other"] });
  const layer = layerOf(image);
  own.farm.hub.add("org/app", image);
  own.farm.quay.add("mirror/org/app", image);
  expect((await own.pull(`${APP}/manifests/latest`)).status).toBe(200);
  return { own, image, layer, bytes: image.blobs.get(layer) ?? new Uint8Array() };
}

function told({ own }: Setting): string[] {
  return own.farm.quay.requests.map(({ method, path }) => `${method} ${path}`);
}

/** Said once a registry failed so often that it is not asked any more. */
const KNOWN_DEAD = 503;

describe.each([
  ["through the cache", true],
  ["past the cache", false],
])("%s", (_, isCached) => {
  test.each([
    ["cannot be reached", 502, (hub) => void (hub.faults.manifest.hangUp = hub.faults.blob.hangUp = "reset")],
    ["answers 500", 502, (hub) => void (hub.faults.manifest.status = hub.faults.blob.status = 500)],
    ["answers 429", 429, (hub) => void (hub.faults.manifest.status = hub.faults.blob.status = 429)],
    ["has a token server that fails", 503, (hub) => (hub.expireTokens(), void (hub.faults.token.status = 503))],
  ] as [string, number, (hub: Cached["farm"]["hub"]) => void][])(
    "[R142, R262] a registry that %s: manifest and layer come from its stand-in, tags do not",
    async (_title, status, breakIt) => {
      const setting = await start({ isCached });
      await using own = setting.own;
      const { image, layer } = setting;
      breakIt(own.farm.hub);
      const manifest = await own.pull(`${APP}/manifests/${image.digest}`);
      expect([manifest.status, digestOf(manifest.body)]).toEqual([200, image.digest]);
      const blob = await own.pull(`${APP}/blobs/${layer}`);
      expect([blob.status, digestOf(blob.body)]).toEqual([200, layer]);
      const head = await own.ask(`${APP}/blobs/${layer}`, { method: "HEAD" });
      expect([head.status, head.headers.get("content-length")]).toEqual([200, String(BIG)]);
      expect([status, KNOWN_DEAD]).toContain((await own.pull(`${APP}/manifests/never`)).status);
      await own.pull(`${APP}/tags/list`);
      expect(told(setting).filter((line) => !line.includes("/mirror/org/app/"))).toEqual([]);
      expect(told(setting).filter((line) => /never|tags/.test(line))).toEqual([]);
      expect(own.farm.quay.requests.every(({ headers }) => !headers.has("authorization"))).toBe(true);
    },
  );

  test("[R34] what the registry itself refuses or does not have is not asked for elsewhere", async () => {
    const setting = await start({ isCached });
    await using own = setting.own;
    const elsewhere = makeImage({ seed: `elsewhere ${isCached}`, tags: ["none"] });
    own.farm.quay.add("mirror/org/app", elsewhere);
    expect((await own.pull(`${APP}/manifests/${elsewhere.digest}`)).status).toBe(404);
    expect((await own.pull(`${APP}/blobs/${layerOf(elsewhere)}`)).status).toBe(404);
    for (const status of [401, 403, 404, 400]) {
      own.farm.hub.faults.manifest.status = own.farm.hub.faults.blob.status = status;
      expect((await own.pull(`${APP}/manifests/${elsewhere.digest}`)).status).toBeLessThan(500);
      expect((await own.pull(`${APP}/blobs/${layerOf(elsewhere)}`)).status).toBeLessThan(500);
    }
    expect(told(setting)).toEqual([]);
  });
});

describe("what a stand-in must not be told", () => {
  const CREDENTIALS = [{ username: "alice", password: "secret" }];

  test.each([
    ["a client's own login", {}, "alice:secret"],
    ["a client's own login, past the cache", { isCached: false }, "alice:secret"],
    ["nobody", {}, undefined],
    [
      "--share-private",
      { args: ["--share-private"], entries: { hub: { ...ALSO_AT_QUAY.hub, credentials: CREDENTIALS } } },
      undefined,
    ],
    [
      "--share-private, past the cache",
      {
        args: ["--share-private"],
        isCached: false,
        entries: { hub: { ...ALSO_AT_QUAY.hub, credentials: CREDENTIALS } },
      },
      undefined,
    ],
  ] as [string, Partial<CachedOptions>, string | undefined][])(
    "[R245, R246] the name of a private repository, asked for with %s",
    async (_title, options, login) => {
      const setting = await start(options);
      await using own = setting.own;
      const { images, hub, quay } = own.farm;
      quay.add("mirror/org/private", images.secret);
      const token =
        login === undefined ? undefined : await own.farm.token("/token/hub?scope=repository:org/private:pull", login);
      const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const names = ["manifests/latest", `manifests/${images.secret.digest}`, `blobs/${layerOf(images.secret)}`];
      await own.pull(`/v2/hub/org/private/${names[0]}`, headers);
      hub.goDown();
      for (const name of names) await own.pull(`/v2/hub/org/private/${name}`, headers);
      const isPublic = (await own.pull(`${APP}/blobs/${setting.layer}`)).status === 200;
      // Nobody's name was ever used where a credential is for everything and nothing is remembered: all counts as private.
      expect(isPublic).toBe(!_title.startsWith("--share-private, past"));
      expect(told(setting).filter((line) => line.includes("private"))).toEqual([]);
      expect(told(setting).length > 0).toBe(isPublic);
    },
  );

  test("[R246] a repository that was made private is not named any more", async () => {
    const setting = await start();
    await using own = setting.own;
    own.farm.hub.add("org/closing", setting.image);
    own.farm.quay.add("mirror/org/closing", setting.image);
    expect((await own.pull("/v2/hub/org/closing/manifests/other")).status).toBe(200);
    own.farm.hub.access.privateRepositories.push("org/closing");
    own.farm.hub.expireTokens();
    expect((await own.pull("/v2/hub/org/closing/manifests/none")).status).toBe(401);
    own.farm.hub.goDown();
    expect((await own.pull(`/v2/hub/org/closing/blobs/${setting.layer}`)).status).toBeGreaterThan(499);
    expect(told(setting)).toEqual([]);
  });

  test("a repository that the stand-in's entry denies, or that alsoAt is not for", async () => {
    const setting = await start({
      entries: {
        hub: { alsoAt: [{ at: "quay/mirror", repositories: ["library/**"] }, "ghcr/closed"] },
        ghcr: { deny: ["closed/**"] },
      },
    });
    await using own = setting.own;
    own.farm.ghcr.add("closed/org/app", setting.image);
    own.farm.hub.goDown();
    expect([502, KNOWN_DEAD]).toContain((await own.pull(`${APP}/blobs/${setting.layer}`)).status);
    expect([told(setting), own.farm.ghcr.count()]).toEqual([[], 0]);
    own.farm.quay.add("mirror/library/app", own.farm.images.hub);
    const layer = layerOf(own.farm.images.hub);
    expect(digestOf((await own.pull(`/v2/app/blobs/${layer}`)).body)).toBe(layer);
  });

  test("[R141] a part that a client asks for past the cache, since nobody could verify it", async () => {
    const setting = await start({ isCached: false });
    await using own = setting.own;
    own.farm.hub.goDown();
    expect([502, KNOWN_DEAD]).toContain(
      (await own.pull(`${APP}/blobs/${setting.layer}`, { range: "bytes=5-9" })).status,
    );
    expect(told(setting)).toEqual([]);
  });
});

describe("a stand-in that is of no use", () => {
  test.each([
    ["404", (quay) => void (quay.faults.blob.status = quay.faults.manifest.status = 404)],
    ["401", (quay) => void (quay.faults.blob.status = quay.faults.manifest.status = 401)],
    ["503", (quay) => void (quay.faults.blob.status = quay.faults.manifest.status = 503)],
    ["a page", (quay) => void (quay.faults.blob.html = quay.faults.manifest.html = true)],
    ["no answer", (quay) => quay.goDown()],
    [
      "another digest",
      (quay) => void (quay.faults.blob.digestHeader = quay.faults.manifest.digestHeader = `sha256:${"0".repeat(64)}`),
    ],
  ] as [string, (quay: Cached["farm"]["quay"]) => void][])(
    "[R211] with %s: the client is told what its registry said",
    async (_title, breakIt) => {
      const setting = await start();
      await using own = setting.own;
      const { hub, quay } = own.farm;
      hub.faults.blob = { status: 429, retryAfter: "77" };
      hub.faults.manifest = { status: 429, retryAfter: "77" };
      breakIt(quay);
      for (const what of [`blobs/${setting.layer}`, `manifests/${setting.image.digest}`]) {
        const { status, headers } = await own.pull(`${APP}/${what}`);
        expect([status, headers.get("retry-after")]).toEqual([429, "77"]);
      }
    },
  );

  test.each([true, false])("[R234, R235] with wrong bytes is refused, cached: %p", async (isCached) => {
    const setting = await start({ isCached });
    await using own = setting.own;
    own.farm.hub.goDown();
    own.farm.quay.faults.blob.corrupt = true;
    own.farm.quay.faults.manifest = { corrupt: true, digestHeader: false };
    const blob = own.pull(`${APP}/blobs/${setting.layer}`);
    expect(
      await blob.then(
        ({ status }) => status,
        () => "broken",
      ),
    ).not.toBe(200);
    expect([502, KNOWN_DEAD]).toContain((await own.pull(`${APP}/manifests/${setting.image.digest}`)).status);
    if (isCached) expect(await keptIn(own.directory)).not.toContain(setting.layer);
  });

  test("[R217] with a manifest of the type whose digest cannot be computed is refused", async () => {
    const setting = await start();
    await using own = setting.own;
    own.farm.hub.goDown();
    own.farm.quay.faults.manifest = { contentType: MEDIA_TYPES.schema1, corrupt: true };
    expect([502, KNOWN_DEAD]).toContain((await own.pull(`${APP}/manifests/${setting.image.digest}`)).status);
  });

  test("[R147] because it names the first one in turn ends", async () => {
    const both = { hub: { alsoAt: ["quay"] }, quay: { alsoAt: ["hub"] } };
    const setting = await start({ entries: both });
    await using own = setting.own;
    const { hub, quay } = own.farm;
    own.farm.reset();
    hub.faults.blob.status = quay.faults.blob.status = 501;
    expect([502, KNOWN_DEAD]).toContain((await own.pull(`${APP}/blobs/${setting.layer}`)).status);
    expect([hub.count({ path: /blobs/ }), quay.count({ path: /blobs/ })].every((count) => count <= 3)).toBe(true);
  });
});

describe("a blob that breaks off", () => {
  test("[R262, R272] and whose registry stays away is finished by the stand-in, from the byte where it stopped", async () => {
    const setting = await start();
    await using own = setting.own;
    const { hub, quay } = own.farm;
    hub.faults.blob = { stallAfterBytes: 1_000_000, cutAfterBytes: 1_500_000, cutWith: "fin" };
    const answer = await own.ask(`${APP}/blobs/${setting.layer}`);
    await hub.untilHeld(1);
    hub.goDown();
    hub.release();
    const body = new Uint8Array(await answer.arrayBuffer());
    expect(digestOf(body)).toBe(setting.layer);
    const ranges = quay.requests.map(({ headers }) => headers.get("range"));
    expect(ranges.filter((range) => /^bytes=[1-9]\d*-/.test(range ?? ""))).toHaveLength(1);
    // Its own registry has shown it, if not to the end.
    await untilTotal(own.layover.url, ["layover_fills_total", { result: "committed" }], 1);
    expect((await own.pull(`${APP}/blobs/${setting.layer}`)).cache).toBe("HIT");
  });

  test.each([true, false])("[R262] again and again is finished by the stand-in, cached: %p", async (isCached) => {
    const setting = await start({ isCached });
    await using own = setting.own;
    own.farm.hub.faults.blob = { cutAfterBytes: 1000 };
    const { status, body } = await own.pull(`${APP}/blobs/${setting.layer}`);
    expect([status, digestOf(body)]).toEqual([200, setting.layer]);
    expect(own.farm.quay.count({ path: /blobs/ })).toBe(1);
  });
});

describe("what a stand-in gave", () => {
  test("[R245] proves nothing about the registry: it is asked again, and its answer counts", async () => {
    const setting = await start();
    await using own = setting.own;
    const { hub } = own.farm;
    hub.faults.blob.status = hub.faults.manifest.status = 503;
    expect((await own.pull(`${APP}/manifests/latest`)).cache).toBe("STALE");
    for (let turn = 0; turn < 2; turn++) {
      expect(digestOf((await own.pull(`${APP}/blobs/${setting.layer}`)).body)).toBe(setting.layer);
      expect((await own.pull(`${APP}/manifests/${setting.image.digest}`)).status).toBe(200);
    }
    await own.layover.stop(); // what it learnt of the registry's state goes with it
    await own.restart();
    hub.faults.blob = { status: 404 };
    hub.faults.manifest = { status: 404 };
    expect((await own.pull(`${APP}/blobs/${setting.layer}`)).status).toBe(404);
    expect((await own.pull(`${APP}/manifests/${setting.image.digest}`)).status).toBe(404);
  });

  test("[T8] leaves the registry's outage as it is", async () => {
    const setting = await start();
    await using own = setting.own;
    const { farm } = own;
    farm.hub.faults.manifest.status = 503;
    expect((await own.pull(`${APP}/manifests/latest`)).cache).toBe("STALE");
    expect((await own.pull(`${APP}/manifests/${setting.image.digest}`)).status).toBe(200);
    expect((await own.pull(`${APP}/blobs/${layerOf(farm.images.hub)}`)).status).toBe(200); // its own blobs it has
    const asked = farm.hub.count({ path: /manifests/ });
    expect((await own.pull(`${APP}/manifests/latest`)).cache).toBe("STALE");
    expect(farm.hub.count({ path: /manifests/ })).toBe(asked);
  });

  test("[R245] needs a grant that everybody has, which outlives a restart by a day", async () => {
    const setting = await start();
    await using own = setting.own;
    own.farm.quay.add("mirror/org/app", own.farm.images.hub); // the grant's proof
    await own.layover.stop();
    own.farm.hub.goDown();
    await own.restart();
    expect(digestOf((await own.pull(`${APP}/blobs/${setting.layer}`)).body)).toBe(setting.layer);
    // Old enough to be asked for again, of which the stand-in learns nothing: its answer would renew the grant.
    for (const hours of [20, 5]) {
      await own.layover.stop();
      ageGrants(own.directory, hours * 3_600_000);
      await own.restart();
      own.farm.quay.reset();
      const { status } = await own.pull(`${APP}/blobs/${setting.layer}`);
      expect([hours, status < 500]).toEqual([hours, hours === 20]);
      expect((await own.pull(`${APP}/manifests/${setting.image.digest}`)).status < 500).toBe(hours === 20);
      expect(told(setting).filter((line) => line.includes(own.farm.images.hub.digest))).toEqual([]);
    }
    expect(told(setting)).toEqual([]);
  });

  test("is told in the access line and counted", async () => {
    const setting = await start();
    await using own = setting.own;
    own.farm.hub.goDown();
    await own.pull(`${APP}/blobs/${setting.layer}`);
    const line = await own.layover.logLine(({ upstream }) => upstream === own.farm.quay.host);
    expect(line).toMatchObject({ registry: "hub", repository: "org/app", status: 200 });
    const samples = await metricsOf(own.layover.url);
    expect(total(samples, "layover_stand_in_answers_total", { registry: "hub", by: "quay" })).toBe(1);
  });
});
