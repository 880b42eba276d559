/** Content whose file became shorter or longer on the disk: found out when it is asked for, and fetched anew within that request. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { appendFile, readdir, rm, truncate } from "node:fs/promises";
import path from "node:path";
import { type Cached, keptIn, startCached } from "../support/cached.ts";
import { digestOf } from "../support/images.ts";

let cached: Cached;
beforeAll(async () => {
  cached = await startCached({ seed: "length" });
});
afterAll(async () => {
  await cached[Symbol.asyncDispose]();
});
beforeEach(() => cached.farm.reset());

test.each([
  ["cut", (file: string) => truncate(file, 150_000)],
  ["longer", (file: string) => appendFile(file, "more")],
])("[R234, R235] a blob whose file is %s is fetched anew", async (_what, damage) => {
  const { layer, path: repository, bytes } = await kept(cached);
  await damage(fileOf(cached, layer));
  const { status, body, headers } = await cached.pull(`${repository}/blobs/${layer}`);
  expect([status, headers.get("content-length"), digestOf(body)]).toEqual([200, String(bytes.byteLength), layer]);
  expect(cached.farm.quay.count({ method: "GET", path: /blobs/ })).toBe(1);
  expect(await asideIn(cached, layer)).toBe(1);
  await untilHit(cached, `${repository}/blobs/${layer}`);
  expect(await keptIn(cached.directory)).toContain(layer);
});

test("[R235, R265] a range of a blob that was cut is what was asked for, behind the cut too", async () => {
  const { layer, path: repository, bytes } = await kept(cached);
  await truncate(fileOf(cached, layer), 1000);
  const { status, headers, body } = await cached.pull(`${repository}/blobs/${layer}`, { range: "bytes=900-1999" });
  expect([status, headers.get("content-range")]).toEqual([206, `bytes 900-1999/${bytes.byteLength}`]);
  expect(Buffer.compare(body, bytes.subarray(900, 2000))).toBe(0);
});

test("[R21, R235] HEAD of a blob that was cut tells its whole length", async () => {
  const { layer, path: repository, bytes } = await kept(cached);
  await truncate(fileOf(cached, layer), 1000);
  const { headers } = await cached.ask(`${repository}/blobs/${layer}`, { method: "HEAD" });
  expect(headers.get("content-length")).toBe(String(bytes.byteLength));
});

test("[R234] a manifest that was cut is fetched anew, by tag and by digest", async () => {
  for (const by of ["tag", "digest"]) {
    const { image, path: repository } = await kept(cached);
    await truncate(fileOf(cached, image.digest), 20);
    const { body } = await cached.pull(`${repository}/manifests/${by === "tag" ? "latest" : image.digest}`);
    expect(digestOf(body)).toBe(image.digest);
    expect(await asideIn(cached, image.digest)).toBe(1);
  }
});

test("[R235, R233] a blob that was cut before its records were deleted is found out by its registry's answer", async () => {
  await using own = await startCached({ seed: "lengthrecords" });
  const { layer, path: repository } = await kept(own);
  await own.layover.stop();
  await truncate(fileOf(own, layer), 1000);
  for (const end of ["", "-wal", "-shm"]) await rm(path.join(own.directory, `records.sqlite${end}`), { force: true });
  await own.restart();
  await own.pull(`${repository}/manifests/latest`);
  expect(digestOf((await own.pull(`${repository}/blobs/${layer}`)).body)).toBe(layer);
  expect(await asideIn(own, layer)).toBe(1);
  await untilHit(own, `${repository}/blobs/${layer}`);
});

test("[R235] a length that only a registry told is settled by the digest, once", async () => {
  await using own = await startCached({ seed: "lengthtold" });
  const { layer, path: repository } = await kept(own);
  await own.layover.stop();
  using records = new Database(path.join(own.directory, "records.sqlite"));
  records.run("UPDATE content SET isVerified = 0, bytes = 7 WHERE digest = ?", [layer]);
  await own.restart();
  for (let turn = 0; turn < 2; turn++) expect((await own.pull(`${repository}/blobs/${layer}`)).cache).toBe("HIT");
  const row = records.query("SELECT bytes, isVerified FROM content WHERE digest = ?").get(layer);
  expect(row).toEqual({ bytes: 200_000, isVerified: 1 });
});

test("[R235, R245] a registry that tells a wrong length gets nothing of others, and does them no harm", async () => {
  const { image, layer, path: repository } = await kept(cached);
  const { ghcr } = cached.farm;
  ghcr.add("org/liar", image);
  ghcr.faults.blob.contentLength = 7;
  const headers = { authorization: `Bearer ${await cached.farm.token("/token/ghcr")}` };
  await cached.pull("/v2/ghcr/org/liar/manifests/latest", headers);
  for (let turn = 0; turn < 2; turn++) {
    const answer = await cached.ask(`/v2/ghcr/org/liar/blobs/${layer}`, { method: "HEAD", headers });
    expect(answer.headers.get("x-cache")).toBe("BYPASS");
  }
  expect(await asideIn(cached, layer)).toBe(0);
  expect((await cached.pull(`${repository}/blobs/${layer}`)).cache).toBe("HIT");
});

/** An image whose manifest and layer are in the cache, asked for once each. */
async function kept(where: Cached) {
  const fresh = where.fresh();
  await where.pull(`${fresh.path}/manifests/latest`);
  await untilHit(where, `${fresh.path}/blobs/${fresh.layer}`);
  where.farm.quay.reset();
  return fresh;
}

/** A client has its last byte before the disk has it. */
async function untilHit(where: Cached, target: string): Promise<void> {
  for (let cache: string | null = ""; cache !== "HIT";) cache = (await where.pull(target)).cache;
}

function fileOf({ directory }: Cached, digest: string): string {
  return path.join(directory, "blobs/sha256", digest.slice("sha256:".length));
}

/** Files of this digest that were moved aside. */
async function asideIn({ directory }: Cached, digest: string): Promise<number> {
  const names = await readdir(path.join(directory, "damaged")).catch(() => []);
  return names.filter((name) => name.startsWith(digest.replace(":", "-"))).length;
}
