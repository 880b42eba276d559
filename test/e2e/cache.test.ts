/** The cache, as clients and upstreams see it: what is asked once, what is shared, what outlives the upstream. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { digestOf, makeImage, makeIndex } from "../support/images.ts";
import { openRaw } from "../support/raw-http.ts";
import { type TempDir, createTempDir } from "../support/temp-dir.ts";

let dir: TempDir;
let farm: Farm;
beforeAll(async () => {
  dir = await createTempDir("layover-cache-");
  farm = await startFarm({ args: ["--cache-dir", dir.file("cache"), "--cache-min-free", "0"] });
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});
beforeEach(() => farm.reset());

let images = 0;
/** An image that nobody pulled before, in a public repository of quay. */
function fresh(layers: number[] = [200_000]) {
  images += 1;
  const repository = `org/fresh${images}`;
  const image = makeImage({ seed: `fresh${images}`, layers });
  farm.quay.add(repository, image);
  return { image, repository, layer: layerOf(image), path: `/v2/quay/${repository}` };
}

async function pull(
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; cache: string | null; body: Uint8Array }> {
  const answer = await farm.ask(path, { headers });
  return { status: answer.status, cache: answer.headers.get("x-cache"), body: await answer.bytes() };
}

describe("a pull", () => {
  test("[C35, C37, R208, R209, R244] costs one GET per manifest and blob, ever", async () => {
    const { image, layer, path } = fresh();
    const index = makeIndex([image]);
    farm.quay.add(`org/fresh${images}`, index);
    for (let turn = 0; turn < 3; turn++) {
      expect(digestOf((await pull(`${path}/manifests/latest`)).body)).toBe(index.digest);
      expect(digestOf((await pull(`${path}/manifests/${image.digest}`)).body)).toBe(image.digest);
      expect(digestOf((await pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
    }
    expect(farm.quay.count({ method: "GET", path: /manifests/ })).toBe(2);
    expect(farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  });

  test("[C35] says what the cache did", async () => {
    const { layer, path } = fresh();
    const states = [];
    for (let turn = 0; turn < 2; turn++) {
      states.push((await pull(`${path}/manifests/latest`)).cache, (await pull(`${path}/blobs/${layer}`)).cache);
    }
    // The second pull may come before the blob is safely on disk: then it follows the download that is still open.
    expect(states.slice(0, 3)).toEqual(["MISS", "MISS", "REVALIDATED"]);
    expect(["HIT", "MISS"]).toContain(states[3] ?? "");
    expect(farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  });

  test("[T16, R20, C20] HEAD of what is not cached fetches no body", async () => {
    const { image, layer, path } = fresh();
    const manifest = await farm.ask(`${path}/manifests/latest`, { method: "HEAD" });
    expect(manifest.headers.get("docker-content-digest")).toBe(image.digest);
    const blob = await farm.ask(`${path}/blobs/${layer}`, { method: "HEAD" });
    expect(blob.headers.get("content-length")).toBe("200000");
    expect(farm.quay.count({ method: "GET" })).toBe(0);
  });
});

describe("many clients", () => {
  test("[T1, R238, C22] of one cold blob share one download", async () => {
    const { layer, path } = fresh([3_000_000]);
    await pull(`${path}/manifests/latest`);
    farm.quay.faults.blob.stallAfterBytes = 100_000;
    const pulls = Array.from({ length: 20 }, () => pull(`${path}/blobs/${layer}`));
    await farm.quay.untilHeld(1);
    farm.quay.release();
    for (const { body } of await Promise.all(pulls)) expect(digestOf(body)).toBe(layer);
    expect(farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  });

  test("[T2, R239] the first leaves, and the download goes on for the next", async () => {
    const { layer, path } = fresh([3_000_000]);
    await pull(`${path}/manifests/latest`);
    farm.quay.faults.blob.stallAfterBytes = 900_000;
    const first = await openRaw(farm.layover.url);
    first.send(`GET ${path}/blobs/${layer} HTTP/1.1\r\nHost: x.test\r\n\r\n`);
    await first.readHead();
    await farm.quay.untilHeld(1);
    first.reset();
    await farm.layover.logLine((line) => line["complete"] === false && String(line["uri"]).endsWith(layer));
    farm.quay.release();
    const { body, cache } = await pull(`${path}/blobs/${layer}`);
    expect(digestOf(body)).toBe(layer);
    expect(["HIT", "MISS"]).toContain(cache ?? "");
    expect(farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  });
});

describe("ranges", () => {
  test("[T21, R265-R269] of what is cached are exact", async () => {
    const { image, layer, path } = fresh([300_000]);
    const bytes = image.blobs.get(layer) ?? new Uint8Array();
    await pull(`${path}/manifests/latest`);
    await pull(`${path}/blobs/${layer}`);
    farm.quay.reset();
    for (const [range, first, last] of [
      ["bytes=0-", 0, 299_999],
      ["bytes=10-19", 10, 19],
      ["bytes=-5", 299_995, 299_999],
      ["bytes=299999-400000", 299_999, 299_999],
    ] as const) {
      const answer = await farm.ask(`${path}/blobs/${layer}`, { headers: { range } });
      expect([answer.status, answer.headers.get("content-range")]).toEqual([206, `bytes ${first}-${last}/300000`]);
      expect(Buffer.from(await answer.bytes())).toEqual(Buffer.from(bytes.subarray(first, last + 1)));
    }
    const several = await farm.ask(`${path}/blobs/${layer}`, { headers: { range: "bytes=0-3,100-103" } });
    expect(several.status).toBe(206);
    expect(several.headers.get("content-type")).toStartWith("multipart/byteranges; boundary=");
    const text = Buffer.from(await several.bytes());
    expect(several.headers.get("content-length")).toBe(String(text.byteLength));
    expect(text.includes(bytes.subarray(100, 104))).toBe(true);
    const beyond = await farm.ask(`${path}/blobs/${layer}`, { headers: { range: "bytes=300000-" } });
    expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, "bytes */300000"]);
    await beyond.text();
    expect(farm.quay.count({ path: /blobs/ })).toBe(0);
  });

  test("[T21, R274] of what is not cached fill the whole, and never stand for it", async () => {
    const { image, layer, path } = fresh([300_000]);
    await pull(`${path}/manifests/latest`);
    const part = await pull(`${path}/blobs/${layer}`, { range: "bytes=1000-1999" });
    expect(part.status).toBe(206);
    expect(Buffer.from(part.body)).toEqual(
      Buffer.from((image.blobs.get(layer) ?? new Uint8Array()).subarray(1000, 2000)),
    );
    expect(digestOf((await pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
    expect(farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  });
});

describe("an upstream in trouble", () => {
  test.each([
    ["429", { status: 429, retryAfter: "60" }],
    ["500", { status: 500 }],
    ["a connection that breaks", { hangUp: "reset" as const }],
  ])("[T8, C18, R241] %s: what was pulled goes on being pulled, marked STALE", async (_title, fault) => {
    await using own = await createTempDir("layover-cache-");
    const farmed = await startFarm({ args: ["--cache-dir", own.file("cache"), "--cache-min-free", "0"] });
    const layer = layerOf(farmed.images.quay);
    const path = "/v2/quay/org/app";
    for (const what of ["manifests/latest", `blobs/${layer}`]) await (await farmed.ask(`${path}/${what}`)).bytes();
    Object.assign(farmed.quay.faults.manifest, fault);
    for (let turn = 0; turn < 3; turn++) {
      const stale = await farmed.ask(`${path}/manifests/latest`);
      expect([stale.status, stale.headers.get("x-cache")]).toEqual([200, "STALE"]);
      expect(stale.headers.get("warning")).toContain("299");
      expect(digestOf(await stale.bytes())).toBe(farmed.images.quay.digest);
    }
    const blob = await farmed.ask(`${path}/blobs/${layer}`);
    expect(digestOf(await blob.bytes())).toBe(layer);
    expect(farmed.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
    const asked = farmed.quay.count({ path: /manifests/ });
    await (await farmed.ask(`${path}/manifests/latest`)).bytes();
    expect(farmed.quay.count({ path: /manifests/ })).toBe(asked); // T6: known to be down, not asked again in this window
    await farmed.stop();
  });

  test("[T12, T13] what is cut or wrong is never kept", async () => {
    for (const fault of [
      { cutAfterBytes: 100_000 },
      { corrupt: true },
      { framing: "chunked" as const, cutAfterBytes: 100_000, cutWith: "complete" as const },
      { html: true },
    ]) {
      const { layer, path } = fresh();
      await pull(`${path}/manifests/latest`);
      Object.assign(farm.quay.faults.blob, fault);
      await farm
        .ask(`${path}/blobs/${layer}`)
        .then((answer) => answer.bytes())
        .catch(() => undefined);
      farm.quay.reset();
      const { status, body } = await pull(`${path}/blobs/${layer}`);
      expect([status, digestOf(body)]).toEqual([200, layer]);
    }
  });
});

describe("who may see it", () => {
  test("[T14, R245, R247] a private image is kept for who may read it, and shown to nobody else", async () => {
    const token = await farm.token("/token/ghcr", "alice:secret");
    const authorization = { authorization: `Bearer ${token}` };
    const layer = layerOf(farm.images.secret);
    const path = "/v2/ghcr/org/private";
    for (const state of ["MISS", "HIT"]) {
      const manifest = await pull(`${path}/manifests/${farm.images.secret.digest}`, authorization);
      expect([manifest.status, manifest.cache]).toEqual([200, state]);
      expect(digestOf((await pull(`${path}/blobs/${layer}`, authorization)).body)).toBe(layer);
    }
    // The second came from the cache, or from the first's download.
    expect(farm.ghcr.count({ method: "GET", path: /private\/blobs/ })).toBe(1);
    await pull("/v2/ghcr/org/app/manifests/latest"); // public, cached, of the same registry
    expect((await pull(`/v2/ghcr/org/private/blobs/${layer}`)).status).toBe(401);
    expect((await pull(`/v2/ghcr/org/app/blobs/${layer}`)).status).toBe(404);
    expect((await pull(`/v2/ghcr/org/app/manifests/${farm.images.secret.digest}`)).status).toBe(404);
  });

  test("[R245, C23] a blob that another repository has is shown only where its registry has it, and fetched once", async () => {
    const { image, layer, path } = fresh();
    farm.ghcr.add("org/shared", image);
    await pull(`${path}/manifests/latest`);
    await pull(`${path}/blobs/${layer}`);
    expect((await pull("/v2/ghcr/org/app/manifests/latest")).status).toBe(200);
    expect((await pull(`/v2/ghcr/org/app/blobs/${layer}`)).status).toBe(404);
    await pull("/v2/ghcr/org/shared/manifests/latest");
    expect(digestOf((await pull(`/v2/ghcr/org/shared/blobs/${layer}`)).body)).toBe(layer);
    expect(farm.ghcr.count({ method: "GET", path: /blobs/ })).toBe(0);
  });

  test("[T11, C19] equal names on two registries never mix", async () => {
    const [hub, quay] = [await pull("/v2/org/app/manifests/latest"), await pull("/v2/quay/org/app/manifests/latest")];
    expect([digestOf(hub.body), digestOf(quay.body)]).toEqual([farm.images.hub.digest, farm.images.quay.digest]);
  });
});

describe("a tag that moves", () => {
  test("[T25] is seen at the next pull, and the old digest still pulls", async () => {
    const { image, repository, path } = fresh();
    await pull(`${path}/manifests/latest`);
    const moved = makeImage({ seed: `moved${images}` });
    farm.quay.add(repository, moved);
    expect(digestOf((await pull(`${path}/manifests/latest`)).body)).toBe(moved.digest);
    expect(digestOf((await pull(`${path}/manifests/${image.digest}`)).body)).toBe(image.digest);
  });
});
