/** The lessons of other caches, with the figures they name, scaled down where they speak of gigabytes. */
import { createHash } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Cached, drain, peakMiB, residentMiB, startCached } from "../support/cached.ts";
import { digestOf, makeArtifact, makeImage, makeIndex } from "../support/images.ts";
import { openRaw } from "../support/raw-http.ts";

const MB = 1_000_000;

let cached: Cached;
beforeAll(async () => {
  const tags = [{ match: "(stable|nightly)", ttl: "10m" }];
  cached = await startCached({ seed: "lesson", entries: { quay: { tags } } });
});
afterAll(async () => {
  await cached[Symbol.asyncDispose]();
});
beforeEach(() => cached.farm.reset());

describe("many clients", () => {
  test("[T1, R238] fifty of one cold blob cost its bytes once, and none waits for another", async () => {
    const { quay } = cached.farm;
    const { layer, path } = cached.fresh([20 * MB]);
    await cached.pull(`${path}/manifests/latest`);
    const before = quay.bytesSent;
    Object.assign(quay.faults.blob, { stallAfterBytes: 10 * MB, times: 1 });
    const streaming = Promise.withResolvers<void>();
    let halves = 0;
    const pulls = Array.from({ length: 50 }, async (_, index) => {
      const answer = await cached.ask(`${path}/blobs/${layer}`);
      const hash = createHash("sha256");
      let bytes = 0;
      for await (const piece of answer.body ?? []) {
        const wasBefore = bytes < 9 * MB;
        bytes += piece.byteLength;
        if (index < 5) hash.update(piece);
        if (wasBefore && bytes >= 9 * MB && ++halves === 50) streaming.resolve();
      }
      return { bytes, digest: index < 5 ? `sha256:${hash.digest("hex")}` : layer };
    });
    await streaming.promise; // all have what has come, while the rest has not been sent
    quay.release();
    for (const pulled of await Promise.all(pulls)) expect(pulled).toEqual({ bytes: 20 * MB, digest: layer });
    expect(quay.bytesSent - before).toBe(20 * MB);
    expect(quay.count({ path: /blobs/ })).toBe(1);
  });

  test("[T22] ten cold blobs at once leave memory flat", async () => {
    const images = Array.from({ length: 10 }, () => cached.fresh([30 * MB]));
    for (const { path } of images) await cached.pull(`${path}/manifests/latest`);
    const answers = await Promise.all(
      images.map(async ({ path, layer }) => ({ layer, ...(await drainBlob(`${path}/blobs/${layer}`)) })),
    );
    for (const { layer, digest } of answers) expect(digest).toBe(layer);
    expect(await peakMiB(cached.layover)).toBeLessThan(300);
  });

  test("[T5] a layer of 200 MB grows memory by a fraction of it", async () => {
    const { layer, path } = cached.fresh([200 * MB]);
    await cached.pull(`${path}/manifests/latest`);
    const before = await residentMiB(cached.layover);
    expect((await drainBlob(`${path}/blobs/${layer}`)).digest).toBe(layer);
    expect((await drainBlob(`${path}/blobs/${layer}`)).digest).toBe(layer);
    expect((await residentMiB(cached.layover)) - before).toBeLessThan(100);
    expect(await peakMiB(cached.layover)).toBeLessThan(300);
  });

  test("[T28, R260] readers that stand still hold neither the download nor the others", async () => {
    const { layer, path } = cached.fresh([40 * MB]);
    await cached.pull(`${path}/manifests/latest`);
    const dead = await Promise.all(Array.from({ length: 8 }, () => openRaw(cached.layover.url)));
    for (const connection of dead) {
      connection.send(`GET ${path}/blobs/${layer} HTTP/1.1\r\nHost: x.test\r\n\r\n`);
      await connection.readHead();
      connection.pause();
    }
    const before = await residentMiB(cached.layover);
    expect((await drainBlob(`${path}/blobs/${layer}`)).digest).toBe(layer);
    expect((await residentMiB(cached.layover)) - before).toBeLessThan(100);
    for (const connection of dead) connection.resume();
    const bodies = await Promise.all(dead.map((connection) => connection.read(40 * MB)));
    for (const body of bodies.slice(0, 2)) expect(digestOf(body)).toBe(layer);
    for (const connection of dead) connection.end();
    expect(cached.farm.quay.count({ path: /blobs/ })).toBe(1);
  });
});

describe("manifests", () => {
  test("[T15] of several platforms are the same bytes by tag and by digest, each time", async () => {
    const { repository, path } = cached.fresh();
    const arm = makeImage({ seed: `${repository}/arm`, platform: { os: "linux", architecture: "arm64" } });
    const amd = makeImage({ seed: `${repository}/amd`, indent: "\t ", trailer: "\n\n" });
    const index = makeIndex([amd, arm], { tags: ["multi"], indent: 3 });
    const signature = makeArtifact({ subject: index, tags: [index.digest.replace(":", "-") + ".sig"] });
    for (const image of [index, signature]) cached.farm.quay.add(repository, image);
    for (const reference of ["multi", index.digest, amd.digest, arm.digest, ...signature.tags.keys()]) {
      const told = await cached.ask(`${path}/manifests/${reference}`, { method: "HEAD" });
      for (const turn of ["cold", "warm"]) {
        const { body, headers } = await cached.pull(`${path}/manifests/${reference}`);
        expect([turn, digestOf(body)]).toEqual([turn, headers.get("docker-content-digest") ?? ""]);
        expect([turn, headers.get("docker-content-digest")]).toEqual([turn, told.headers.get("docker-content-digest")]);
        expect([turn, headers.get("content-length")]).toEqual([turn, told.headers.get("content-length")]);
      }
    }
  });

  test("[T25, R242] HEAD and GET of a tag that moves agree, and the old digest still pulls", async () => {
    const { image, repository, path } = cached.fresh();
    await cached.pull(`${path}/manifests/latest`);
    const moved = makeImage({ seed: `${repository}/moved` });
    cached.farm.quay.add(repository, moved);
    const head = await cached.ask(`${path}/manifests/latest`, { method: "HEAD" });
    const get = await cached.pull(`${path}/manifests/latest`);
    expect([head.headers.get("docker-content-digest"), digestOf(get.body)]).toEqual([moved.digest, moved.digest]);
    cached.farm.quay.reset();
    expect((await cached.pull(`${path}/manifests/${image.digest}`)).cache).toBe("HIT");
    expect(cached.farm.quay.count()).toBe(0);
  });

  test("[T25] a tag with a rule in the map is served without its registry while it holds", async () => {
    const { repository, path } = cached.fresh();
    const image = makeImage({ seed: `${repository}/stable`, tags: ["stable", "unruled"] });
    cached.farm.quay.add(repository, image);
    for (const tag of ["stable", "unruled"]) await cached.pull(`${path}/manifests/${tag}`);
    cached.farm.quay.reset();
    const head = await cached.ask(`${path}/manifests/stable`, { method: "HEAD" });
    expect([head.headers.get("x-cache"), (await cached.pull(`${path}/manifests/stable`)).cache]).toEqual([
      "HIT",
      "HIT",
    ]);
    expect(cached.farm.quay.count()).toBe(0);
    expect((await cached.pull(`${path}/manifests/unruled`)).cache).toBe("REVALIDATED");
  });

  test("[T25] --tag-ttl holds for tags without a rule", async () => {
    await using own = await startCached({ seed: "ttl", args: ["--tag-ttl", "1h"] });
    const { repository, path, image } = own.fresh();
    await own.pull(`${path}/manifests/latest`);
    own.farm.quay.add(repository, makeImage({ seed: `${repository}/moved` }));
    own.farm.quay.reset();
    const { cache, body } = await own.pull(`${path}/manifests/latest`);
    expect([cache, digestOf(body), own.farm.quay.count()]).toEqual(["HIT", image.digest, 0]);
  });

  test("[R28, R241] what was found for one Accept does not answer another", async () => {
    const { path } = cached.fresh();
    const oci = "application/vnd.oci.image.manifest.v1+json";
    const docker = "application/vnd.docker.distribution.manifest.v2+json";
    await cached.pull(`${path}/manifests/latest`, { accept: oci });
    cached.farm.quay.faults.manifest.status = 500;
    expect((await cached.pull(`${path}/manifests/latest`, { accept: `${oci};q=0.9` })).cache).toBe("STALE");
    expect((await cached.pull(`${path}/manifests/latest`, { accept: docker })).status).toBe(502);
  });

  test.each([
    ["405", { headStatus: 405 }],
    ["no digest", { digestHeader: false as const }],
    ["no length", { contentLength: false as const, match: ({ method }: { method: string }) => method === "HEAD" }],
  ])("[R208, R140, R169] a HEAD that says %s becomes one GET that fills", async (_title, fault) => {
    const { quay } = cached.farm;
    const { image, path } = cached.fresh();
    Object.assign(quay.faults.manifest, fault);
    const { status, body } = await cached.pull(`${path}/manifests/latest`);
    expect([status, digestOf(body)]).toEqual([200, image.digest]);
    expect(quay.count({ method: "GET", path: /manifests/ })).toBe(1);
    quay.reset();
    expect((await cached.pull(`${path}/manifests/${image.digest}`)).cache).toBe("HIT");
    expect(quay.count()).toBe(0);
  });

  test("[R218] a wrong digest told with a tag fails no pull and is never kept", async () => {
    const { image, path } = cached.fresh();
    cached.farm.quay.faults.manifest.digestHeader = digestOf(new TextEncoder().encode("another"));
    const { status, body, headers } = await cached.pull(`${path}/manifests/latest`);
    expect([status, digestOf(body), headers.get("docker-content-digest")]).toEqual([200, image.digest, image.digest]);
  });

  test("[T11] equal names on two registries keep what each has, by tag and by digest", async () => {
    const { image, repository, path } = cached.fresh();
    const other = makeImage({ seed: `${repository}/ghcr` });
    cached.farm.ghcr.add(repository, other);
    for (let turn = 0; turn < 2; turn++) {
      expect(digestOf((await cached.pull(`${path}/manifests/latest`)).body)).toBe(image.digest);
      expect(digestOf((await cached.pull(`/v2/ghcr/${repository}/manifests/latest`)).body)).toBe(other.digest);
    }
    expect((await cached.pull(`/v2/ghcr/${repository}/manifests/${image.digest}`)).status).toBe(404);
  });

  test("[T16] HEAD of what is not cached, also of a blob while the registry has it, fetches no body", async () => {
    const { image, layer, path } = cached.fresh();
    for (let turn = 0; turn < 2; turn++) {
      const manifest = await cached.ask(`${path}/manifests/${image.digest}`, { method: "HEAD" });
      expect(manifest.headers.get("docker-content-digest")).toBe(image.digest);
      const blob = await cached.ask(`${path}/blobs/${layer}`, { method: "HEAD" });
      expect([blob.status, blob.headers.get("content-length")]).toEqual([200, "200000"]);
    }
    expect([cached.farm.quay.count({ method: "GET" }), cached.farm.quay.bytesSent]).toEqual([0, 0]);
  });
});

describe("ranges of a running download", () => {
  test("[T21, R274] near waits, far has a request of its own, and neither stands for the whole", async () => {
    const { quay } = cached.farm;
    const { layer, bytes, path } = cached.fresh([24 * MB]);
    await cached.pull(`${path}/manifests/latest`);
    Object.assign(quay.faults.blob, { stallAfterBytes: 1 * MB, times: 1 });
    const whole = cached.ask(`${path}/blobs/${layer}`).then(drain);
    await quay.untilHeld(1);
    const far = await cached.pull(`${path}/blobs/${layer}`, { range: "bytes=20000000-20000999" });
    expect([far.status, far.cache, far.headers.get("content-range")]).toEqual([
      206,
      "BYPASS",
      `bytes 20000000-20000999/${24 * MB}`,
    ]);
    expect(Buffer.from(far.body)).toEqual(Buffer.from(bytes.subarray(20 * MB, 20 * MB + 1000)));
    const near = cached.pull(`${path}/blobs/${layer}`, { range: "bytes=2000000-2000999" });
    const several = cached.pull(`${path}/blobs/${layer}`, { range: "bytes=0-9,2000000-2000009" });
    quay.release();
    expect(Buffer.from((await near).body)).toEqual(Buffer.from(bytes.subarray(2 * MB, 2 * MB + 1000)));
    expect((await several).status).toBe(206);
    expect(Buffer.from((await several).body).includes(bytes.subarray(2 * MB, 2 * MB + 10))).toBe(true);
    expect((await whole).digest).toBe(layer);
    expect(quay.count({ method: "GET", path: /blobs/ })).toBe(2);
    expect(digestOf((await cached.pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
  });

  test("[T21, R176] open-ended ranges side by side, each cut off, are one download", async () => {
    const { quay } = cached.farm;
    const { layer, bytes, path } = cached.fresh([8 * MB]);
    await cached.pull(`${path}/manifests/latest`);
    const parts = await Promise.all(
      [0, 2, 4, 6].map(async (at) => {
        const connection = await openRaw(cached.layover.url);
        connection.send(`GET ${path}/blobs/${layer} HTTP/1.1\r\nHost: x.test\r\nRange: bytes=${at * MB}-\r\n\r\n`);
        const head = await connection.readHead();
        const part = await connection.read(2 * MB);
        connection.reset();
        return { status: head.status, part };
      }),
    );
    expect(parts.map(({ status }) => status)).toEqual([206, 206, 206, 206]);
    expect(Buffer.concat(parts.map(({ part }) => part)).equals(Buffer.from(bytes))).toBe(true);
    expect(quay.count({ path: /blobs/ })).toBe(1);
    expect(digestOf((await cached.pull(`${path}/blobs/${layer}`)).body)).toBe(layer);
    expect(quay.count({ path: /blobs/ })).toBe(1);
  });
});

async function drainBlob(path: string) {
  return drain(await cached.ask(path));
}
