/** The cache when things break: registries, token servers, disks, processes. A pull goes on, and nothing wrong is ever kept. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, openSync, writeSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { type Cached, ageGrants, keptIn, spoolsIn, startCached } from "../support/cached.ts";
import { layerOf } from "../support/farm.ts";
import { digestOf, makeImage } from "../support/images.ts";
import { openRaw } from "../support/raw-http.ts";
import { mayMount, mountDisk } from "../support/small-disk.ts";
import { metricsOf, total } from "../support/metrics.ts";

const MB = 1_000_000;
const PIECE = new Uint8Array(64 * 1024);
const MINUTE_MS = 60_000;
/** The whole lesson is twenty: `npm run test:long`. */
const KILLS = Number(process.env["LAYOVER_KILLS"] ?? 4);

let cached: Cached;
beforeAll(async () => {
  cached = await startCached({ seed: "fault" });
});
afterAll(async () => {
  await cached[Symbol.asyncDispose]();
});
beforeEach(() => cached.farm.reset());

describe("a registry that is gone", () => {
  test("[T6, R241] holds nobody up once it is known, and is probed by one request per window", async () => {
    await using own = await startCached({ seed: "dead" });
    const { quay } = own.farm;
    const { image, layer, path: repository } = own.fresh();
    for (const what of ["manifests/latest", `blobs/${layer}`]) await own.pull(`${repository}/${what}`);
    quay.reset();
    quay.faults.manifest.stallBeforeHeaders = true;
    const first = await own.pull(`${repository}/manifests/latest`);
    expect([first.status, first.cache]).toEqual([200, "STALE"]);
    const begun = performance.now();
    for (let turn = 0; turn < 20; turn++) {
      const { cache, body, headers } = await own.pull(`${repository}/manifests/latest`);
      expect([cache, digestOf(body)]).toEqual(["STALE", image.digest]);
      expect(headers.get("warning")).toStartWith("299 ");
      expect((await own.pull(`${repository}/blobs/${layer}`)).cache).toBe("HIT");
    }
    // Forty answers: one that waited for the registry would alone take as long.
    expect(performance.now() - begun).toBeLessThan(3000);
    expect(quay.count()).toBe(1);
    // The question that nobody waited for is answered at last: the registry is back for everybody.
    quay.release();
    quay.faults.manifest = {};
    await quay.until({ path: /manifests/ }, 1);
    let last = first;
    for (let turn = 0; turn < 200 && last.cache !== "REVALIDATED"; turn++) {
      last = await own.pull(`${repository}/manifests/latest`);
    }
    expect(last.cache).toBe("REVALIDATED");
  });
});

describe("a repository that is made private", () => {
  test("[T9, R245] by the answer to a manifest, or found out when its grant is a quarter of an hour old", async () => {
    await using own = await startCached({ seed: "closed" });
    const { ghcr } = own.farm;
    const layer = layerOf(own.farm.images.ghcr);
    const repository = "/v2/ghcr/org/app";
    for (const what of ["manifests/latest", `blobs/${layer}`]) await own.pull(`${repository}/${what}`);
    await own.layover.stop();
    ageGrants(own.directory, 20 * MINUTE_MS);
    ghcr.access.privateRepositories.push("org/app");
    ghcr.expireTokens();
    await own.restart();
    const token = await anonymousToken(own);
    for (const what of [`blobs/${layer}`, `manifests/${own.farm.images.ghcr.digest}`, "manifests/latest"]) {
      expect((await own.pull(`${repository}/${what}`)).status).toBe(401);
      expect((await own.pull(`${repository}/${what}`, { authorization: `Bearer ${token}` })).status).toBe(404);
    }
  });

  test("[R245] while a blob is fetched for everybody: who may read it still can", async () => {
    const { ghcr } = cached.farm;
    const image = makeImage({ seed: "late", layers: [50_000] });
    ghcr.add("org/late", image);
    await cached.pull("/v2/ghcr/org/late/manifests/latest");
    ghcr.access.privateRepositories.push("org/late");
    ghcr.expireTokens();
    const token = await cached.farm.token("/token/ghcr", "alice:secret");
    const path = `/v2/ghcr/org/late/blobs/${layerOf(image)}`;
    const own = await cached.pull(path, { authorization: `Bearer ${token}` });
    expect([own.status, own.cache, digestOf(own.body)]).toEqual([200, "BYPASS", layerOf(image)]);
    expect((await cached.pull(path)).status).toBe(401);
  });
});

describe("what is wrong", () => {
  test.each([
    [
      "T12",
      "a body that is cut and ends clean, without a length",
      { framing: "chunked", cutAfterBytes: 100_000, cutWith: "complete" },
    ],
    ["T12", "a body that ends with its connection", { framing: "eof", cutAfterBytes: 100_000, cutWith: "fin" }],
    ["T13", "wrong bytes of the right length", { corrupt: true }],
    ["T13", "a page with 200", { html: true }],
  ] as const)("[%s, R234-R237] %s is not kept, and never ends well for a client", async (_lesson, _what, fault) => {
    const { layer, path: repository } = cached.fresh();
    await cached.pull(`${repository}/manifests/latest`);
    Object.assign(cached.farm.quay.faults.blob, fault);
    const connection = await openRaw(cached.layover.url);
    connection.send(`GET ${repository}/blobs/${layer} HTTP/1.1\r\nHost: x.test\r\n\r\n`);
    const answer = await connection.readAnswer();
    expect(answer.status === 502 || (answer.status === 200 && !answer.isComplete)).toBe(true);
    expect(answer.status === 502 || digestOf(answer.body) !== layer).toBe(true);
    connection.end();
    expect(await keptIn(cached.directory)).not.toContain(layer);
    cached.farm.quay.reset();
    const { status, body } = await cached.pull(`${repository}/blobs/${layer}`);
    expect([status, digestOf(body)]).toEqual([200, layer]);
  });

  test("[R234] a manifest that was damaged on disk is fetched anew", async () => {
    const { image, path: repository } = cached.fresh();
    await cached.pull(`${repository}/manifests/latest`);
    const file = path.join(cached.directory, "blobs/sha256", image.digest.slice("sha256:".length));
    await Bun.write(file, (await Bun.file(file).text()).replace("schemaVersion", "schemaversion"));
    for (const reference of ["latest", image.digest])
      expect(digestOf((await cached.pull(`${repository}/manifests/${reference}`)).body)).toBe(image.digest);
    expect(await keptIn(cached.directory)).toContain(image.digest);
    expect(total(await metricsOf(cached.layover.url), "layover_damaged_content_total")).toBe(1);
  });

  test("[T10, R245] a shared blob whose file is gone is fetched anew, by whichever repository asks", async () => {
    const { image, layer, path: repository } = cached.fresh();
    cached.farm.quay.add("org/sharing", image);
    for (const each of [repository, "/v2/quay/org/sharing"]) {
      await cached.pull(`${each}/manifests/latest`);
      // A client has its last byte a moment before the file is in its place.
      while ((await cached.pull(`${each}/blobs/${layer}`)).cache !== "HIT");
    }
    cached.farm.quay.content.repositories.delete(repository.slice("/v2/quay/".length));
    await rm(path.join(cached.directory, "blobs/sha256", layer.slice("sha256:".length)));
    const head = await cached.ask(`/v2/quay/org/sharing/blobs/${layer}`, { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe("200000");
    const { status, body } = await cached.pull(`/v2/quay/org/sharing/blobs/${layer}`);
    expect([status, digestOf(body)]).toEqual([200, layer]);
    expect(digestOf((await cached.pull(`${repository}/blobs/${layer}`)).body)).toBe(layer);
  });
});

describe("a disk", () => {
  test.skipIf(!mayMount())("[T19] that is full in mid-fill fails no pull, and says so once", async () => {
    await using disk = await mountDisk("8m");
    await using own = await startCached({ seed: "full", directory: disk.path });
    const { quay } = own.farm;
    // There was room when it began, then somebody else took it.
    const overtaken = own.fresh([5 * MB]);
    await own.pull(`${overtaken.path}/manifests/latest`);
    Object.assign(quay.faults.blob, { stallAfterBytes: 1 * MB, times: 1 });
    const pulls = Array.from({ length: 3 }, () => own.pull(`${overtaken.path}/blobs/${overtaken.layer}`));
    await quay.untilHeld(1);
    await untilSpooled(own, MB / 2);
    fillUp(path.join(disk.path, "others"), 8 * MB);
    quay.release();
    for (const { status, body } of await Promise.all(pulls))
      expect([status, digestOf(body)]).toEqual([200, overtaken.layer]);
    await rm(path.join(disk.path, "others"));
    // Never room for it, said beforehand or found on the way.
    for (const framing of ["length", "chunked"] as const) {
      quay.reset();
      const { layer, path: repository } = own.fresh([30 * MB]);
      await own.pull(`${repository}/manifests/latest`);
      quay.faults.blob.framing = framing;
      const { status, body } = await own.pull(`${repository}/blobs/${layer}`);
      expect([status, digestOf(body)]).toEqual([200, layer]);
    }
    quay.reset();
    // The disk has room again: what fits is kept, as soon as the records can be written.
    const small = own.fresh([100_000]);
    for (let cache: string | null = ""; cache !== "HIT"; await Bun.sleep(20)) {
      await own.pull(`${small.path}/manifests/latest`);
      cache = (await own.pull(`${small.path}/blobs/${small.layer}`)).cache;
    }
    expect(await spoolsIn(own.directory)).toEqual([]);
    expect(complaints(own)).toBe(1);
  });

  test.skipIf(!mayMount())("[T19] that is read-only serves what it has, and pulls of other things pass", async () => {
    await using disk = await mountDisk("32m");
    await using own = await startCached({ seed: "readonly", directory: disk.path });
    const kept = own.fresh();
    for (const what of ["manifests/latest", `blobs/${kept.layer}`]) await own.pull(`${kept.path}/${what}`);
    await own.layover.stop();
    disk.makeReadOnly();
    await own.restart();
    for (let turn = 0; turn < 3; turn++) {
      const { layer, path: repository } = own.fresh();
      expect((await own.pull(`${repository}/manifests/latest`)).status).toBe(200);
      expect(digestOf((await own.pull(`${repository}/blobs/${layer}`)).body)).toBe(layer);
    }
    own.farm.quay.reset();
    await own.pull(`${kept.path}/manifests/latest`);
    expect(digestOf((await own.pull(`${kept.path}/blobs/${kept.layer}`)).body)).toBe(kept.layer);
    expect(own.farm.quay.count({ method: "GET", path: /blobs/ })).toBe(0);
    expect(complaints(own)).toBeLessThanOrEqual(2); // one of blobs, one of manifests
    const counted = total(await metricsOf(own.layover.url), "layover_cache_failures_total", { kind: "read-only" });
    expect(counted).toBeGreaterThanOrEqual(3);
  });

  test("[T19] whose budget is smaller than one image passes it through", async () => {
    await using own = await startCached({ seed: "budget", args: ["--cache-max-size", "1m"] });
    for (let turn = 0; turn < 3; turn++) {
      const { layer, path: repository } = own.fresh([3 * MB, 100_000]);
      await own.pull(`${repository}/manifests/latest`);
      expect(digestOf((await own.pull(`${repository}/blobs/${layer}`)).body)).toBe(layer);
    }
    expect(await spoolsIn(own.directory)).toEqual([]);
    expect(complaints(own)).toBe(1);
    const full = total(await metricsOf(own.layover.url), "layover_cache_failures_total", { kind: "full" });
    expect(full).toBeGreaterThanOrEqual(3); // said once, counted each time
  });
});

describe("a process", () => {
  test("[T20, R239] that is killed in mid-fill goes on where it was, and leaves nothing behind", async () => {
    await using own = await startCached({ seed: "killed" });
    const { quay } = own.farm;
    for (let round = 0; round < KILLS; round++) {
      const { image, layer, path: repository } = own.fresh([3 * MB]);
      await own.pull(`${repository}/manifests/latest`);
      quay.faults.blob.stallAfterBytes = 2 * MB;
      const cut = own.pull(`${repository}/blobs/${layer}`).catch(() => undefined);
      await quay.untilHeld(1);
      await untilSpooled(own, 1 * MB);
      own.layover.signal("SIGKILL");
      await own.layover.exited;
      await cut;
      quay.reset();
      await own.restart();
      const { status, body } = await own.pull(`${repository}/blobs/${layer}`);
      expect([status, digestOf(body)]).toEqual([200, layer]);
      const [resumed] = quay.requests.filter(
        ({ method, path: asked }) => method === "GET" && asked.includes("/blobs/"),
      );
      expect(resumed?.headers.get("range")).toMatch(/^bytes=[1-9]\d{5,6}-$/);
      expect(await keptIn(own.directory)).toContain(image.digest);
      await untilKept(own, layer);
      expect(await spoolsIn(own.directory)).toEqual([]);
    }
  }, 120_000);

  test("[R233] whose records are deleted downloads no blob again", async () => {
    await using own = await startCached({ seed: "records" });
    const { image, layer, path: repository } = own.fresh();
    for (const what of ["manifests/latest", `blobs/${layer}`]) await own.pull(`${repository}/${what}`);
    await own.layover.stop();
    for (const end of ["", "-wal", "-shm"]) await rm(path.join(own.directory, `records.sqlite${end}`), { force: true });
    own.farm.quay.reset();
    await own.restart();
    expect(digestOf((await own.pull(`${repository}/manifests/latest`)).body)).toBe(image.digest);
    const pulls = await Promise.all(Array.from({ length: 10 }, () => own.pull(`${repository}/blobs/${layer}`)));
    for (const { cache, body } of pulls) expect([cache, digestOf(body)]).toEqual(["HIT", layer]);
    expect(own.farm.quay.count({ method: "GET", path: /blobs/ })).toBe(0);
    expect(own.farm.quay.count({ method: "HEAD", path: /blobs/ })).toBe(1);
  });
});

async function anonymousToken(own: Cached): Promise<string> {
  const { token } = (await (await own.ask("/token/ghcr")).json()) as { token: string };
  return token;
}

/** Warnings about content that is not kept. */
function complaints({ layover }: Cached): number {
  return layover.log.filter(({ level, msg }) => level === "warn" && /cannot keep|not kept/.test(msg ?? "")).length;
}

async function untilSpooled({ directory }: Cached, bytes: number): Promise<void> {
  for (;;) {
    const spools = await spoolsIn(directory);
    if (spools.some((spool) => spool.bytes >= bytes)) return;
    await Bun.sleep(5); // a file's growth is no event
  }
}

/** The last bytes reach clients before the disk has them for sure. */
async function untilKept({ directory }: Cached, digest: string): Promise<void> {
  while (!(await keptIn(directory)).includes(digest)) await Bun.sleep(5);
}

/** Takes so many bytes of a disk, or all that is left. */
function fillUp(file: string, bytes: number): void {
  const handle = openSync(file, "w");
  try {
    for (let left = bytes; left > 0; left -= PIECE.byteLength) writeSync(handle, PIECE);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
  } finally {
    closeSync(handle);
  }
}
