/** Blobs: whole, in parts, through redirects, and broken in every way a transfer can break. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { digestOf, makeImage } from "../support/images.ts";
import { EMPTY_DIGEST, makeEmptyBlobImage, makeSha512Image } from "../support/odd-images.ts";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { metricsOf, total } from "../support/metrics.ts";
import { openRaw } from "../support/raw-http.ts";

let farm: Farm;
const big = makeImage({ seed: "big", layers: [3_000_000] });
const bigLayer = layerOf(big);
const bytes = big.blobs.get(bigLayer) ?? new Uint8Array();
const path = `/v2/quay/org/big/blobs/${bigLayer}`;
beforeAll(async () => {
  farm = await startFarm();
  for (const registry of [farm.quay, farm.ghcr, farm.hub]) registry.add("org/big", big);
  farm.quay.add("org/empty", makeEmptyBlobImage());
  farm.quay.add("org/sha512", makeSha512Image());
});
afterAll(() => farm.stop());
beforeEach(() => farm.reset());

describe("whole blobs", () => {
  test("[R18, R25, R44, R202, R221, R275] arrive with exact headers", async () => {
    farm.quay.faults.blob.contentType = "binary/octet-stream"; // as storage calls it
    const answer = await farm.ask(path);
    expect(
      Object.fromEntries(
        ["content-length", "content-type", "docker-content-digest", "etag", "accept-ranges", "transfer-encoding"].map(
          (name) => [name, answer.headers.get(name)],
        ),
      ),
    ).toEqual({
      "content-length": "3000000",
      "content-type": "application/octet-stream",
      "docker-content-digest": bigLayer,
      etag: `"${bigLayer}"`,
      "accept-ranges": "bytes",
      "transfer-encoding": null,
    });
    expect(digestOf(await answer.bytes())).toBe(bigLayer);
  });

  test("[R20, R130, T16] HEAD has the length and no body, and fetches none", async () => {
    const answer = await farm.ask(path, { method: "HEAD" });
    expect(answer.headers.get("content-length")).toBe("3000000");
    expect(answer.headers.get("accept-ranges")).toBe("bytes");
    expect(farm.quay.count({ method: "GET" })).toBe(0);
  });

  test("[R130] HEAD that the registry refuses is answered by a GET of one byte", async () => {
    farm.quay.faults.blob.headStatus = 401;
    const answer = await farm.ask(path, { method: "HEAD" });
    expect([answer.status, answer.headers.get("content-length")]).toEqual([200, "3000000"]);
    expect(farm.quay.bytesSent).toBeLessThan(10_000);
  });

  test("[R140] HEAD without a length gets one", async () => {
    Object.assign(farm.quay.faults.blob, {
      contentLength: false,
      match: ({ method }: { method: string }) => method === "HEAD",
    });
    expect((await farm.ask(path, { method: "HEAD" })).headers.get("content-length")).toBe("3000000");
  });

  test("[R46] the empty blob is a blob", async () => {
    const answer = await farm.ask(`/v2/quay/org/empty/blobs/${EMPTY_DIGEST}`);
    expect([answer.status, answer.headers.get("content-length"), await answer.text()]).toEqual([200, "0", ""]);
    const head = await farm.ask(`/v2/quay/org/empty/blobs/${EMPTY_DIGEST}`, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "0"]);
    const part = await farm.ask(`/v2/quay/org/empty/blobs/${EMPTY_DIGEST}`, { headers: { range: "bytes=0-" } });
    expect([part.status, part.headers.get("content-range")]).toEqual([416, "bytes */0"]);
    await part.text();
  });

  test("[R11] an algorithm that cannot be checked here is left to the client", async () => {
    const blake3 = `blake3:${"b".repeat(64)}`;
    farm.quay.add("org/other", { blobs: new Map([[blake3, bytes]]), manifests: new Map(), tags: new Map() });
    const answer = await farm.ask(`/v2/quay/org/other/blobs/${blake3}`);
    expect([answer.status, answer.headers.get("docker-content-digest")]).toEqual([200, blake3]);
    expect((await answer.bytes()).byteLength).toBe(bytes.byteLength);
  });

  test("[R11, R19] sha512 is verified like sha256", async () => {
    const layer = layerOf(makeSha512Image());
    const answer = await farm.ask(`/v2/quay/org/sha512/blobs/${layer}`);
    expect(digestOf(await answer.bytes(), "sha512")).toBe(layer);
  });

  test("[R26] an unknown blob is 404 BLOB_UNKNOWN", async () => {
    const answer = await farm.ask(`/v2/quay/org/big/blobs/sha256:${"1".repeat(64)}`);
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain("BLOB_UNKNOWN");
  });

  test("[R44] If-None-Match is 304 only after the registry said yes", async () => {
    const headers = { "if-none-match": `"${bigLayer}"` };
    expect((await farm.ask(path, { headers })).status).toBe(304);
    expect(farm.quay.count({ method: "HEAD" })).toBe(1);
    const missing = `sha256:${"2".repeat(64)}`;
    const answer = await farm.ask(`/v2/quay/org/big/blobs/${missing}`, {
      headers: { "if-none-match": `"${missing}"` },
    });
    expect(answer.status).toBe(404);
    await answer.text();
  });

  test("[R225, R226] a compressed transfer is undone, a compressed layer is left alone", async () => {
    farm.quay.faults.blob.gzip = true;
    const answer = await farm.ask(path, { headers: { "accept-encoding": "gzip" } });
    expect(answer.headers.get("content-encoding")).toBeNull();
    expect(digestOf(await answer.bytes())).toBe(bigLayer);
  });
});

describe("ranges", () => {
  const rows: [title: string, range: string, first: number, last: number][] = [
    ["[R31, R267] from 0 on", "bytes=0-", 0, 2_999_999],
    ["[R31, R265, T21] a part", "bytes=500-1499", 500, 1499],
    ["[R265, T21] open", "bytes=2000000-", 2_000_000, 2_999_999],
    ["[R265, T21] the last", "bytes=-500", 2_999_500, 2_999_999],
    ["[R265, R89] beyond the end", "bytes=2999000-5000000", 2_999_000, 2_999_999],
  ];
  for (const ignoring of ["that honours Range", "that ignores Range"] as const) {
    test.each(rows)(`%s, from a registry ${ignoring}`, async (_title, range, first, last) => {
      farm.quay.faults.blob.ignoreRange = ignoring === "that ignores Range";
      const answer = await farm.ask(path, { headers: { range } });
      expect(answer.status).toBe(206);
      expect(answer.headers.get("content-range")).toBe(`bytes ${first}-${last}/3000000`);
      expect(answer.headers.get("content-length")).toBe(String(last - first + 1));
      expect(Buffer.from(await answer.bytes())).toEqual(Buffer.from(bytes.subarray(first, last + 1)));
    });
  }

  test.each([
    ["[R266, R89] past the end", "bytes=3000000-"],
    ["[R268, R89] backwards", "bytes=500-0"],
    ["[R266] the last zero bytes", "bytes=-0"],
  ])("%s is 416 with the total", async (_title, range) => {
    const answer = await farm.ask(path, { headers: { range } });
    expect(answer.status).toBe(416);
    expect(answer.headers.get("content-range")).toBe("bytes */3000000");
    expect(await answer.text()).toContain("RANGE_INVALID");
  });

  test.each([
    ["[R268] another unit", "items=0-1"],
    ["[R268] nonsense", "bytes=a-b"],
    ["[R188, R269, R270] several", "bytes=0-1,5-9"],
  ])("%s gets the whole", async (_title, range) => {
    const answer = await farm.ask(path, { headers: { range } });
    expect(answer.status).toBe(200);
    expect(digestOf(await answer.bytes())).toBe(bigLayer);
    expect(farm.quay.requests.every(({ headers }) => headers.get("range") === null)).toBe(true);
  });

  test("[R271] If-Range with the digest honours the range, another does not", async () => {
    const same = await farm.ask(path, { headers: { range: "bytes=0-9", "if-range": `"${bigLayer}"` } });
    expect(same.status).toBe(206);
    await same.bytes();
    const other = await farm.ask(path, { headers: { range: "bytes=0-9", "if-range": '"other"' } });
    expect(other.status).toBe(200);
    await other.bytes();
  });

  test("[R273] Range on HEAD is ignored", async () => {
    const head = await farm.ask(path, { method: "HEAD", headers: { range: "bytes=0-9" } });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "3000000"]);
  });

  test("[R272] a part other than the one asked is not passed on", async () => {
    for (const [range, came] of [
      ["bytes=500-1499", "bytes 7-1006/3000000"],
      ["bytes=500-1499", "bytes 500-2000/3000000"],
      ["bytes=500-1499", "bytes 500-1499/*"],
      ["bytes=-500", "bytes 0-499/3000000"],
      ["bytes=-500", "bytes 2000000-2999999/3000000"],
    ] as const) {
      farm.quay.faults.blob.contentRange = came;
      const answer = await farm.ask(path, { headers: { range } });
      expect([came, answer.status]).toEqual([came, 502]);
      await answer.text();
    }
  });
});

describe("redirects", () => {
  const kinds: [title: string, redirect: NonNullable<Farm["quay"]["faults"]["blob"]["redirect"]>][] = [
    ["[C6, R129, R138] 307 to a CDN", {}],
    ["[R134, C36] 302, relative", { to: "relative" }],
    ["[R148] several hops", { hops: 3 }],
    ["[R148] 301", { status: 301 }],
    ["[R148] 303", { status: 303 }],
    ["[R148] 308", { status: 308 }],
  ];
  test.each(kinds)("%s is followed here, for GET, HEAD and Range", async (_title, redirect) => {
    farm.quay.faults.blob.redirect = redirect;
    const whole = await farm.ask(path);
    expect([whole.status, whole.headers.get("location")]).toEqual([200, null]);
    expect(digestOf(await whole.bytes())).toBe(bigLayer);
    const head = await farm.ask(path, { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe("3000000");
    const part = await farm.ask(path, { headers: { range: "bytes=5-9" } });
    expect(Buffer.from(await part.bytes())).toEqual(Buffer.from(bytes.subarray(5, 10)));
  });

  test("[R42, R149, C36] no Authorization at the CDN", async () => {
    farm.ghcr.faults.blob.redirect = {};
    const answer = await farm.ask(`/v2/ghcr/org/big/blobs/${bigLayer}`);
    expect(digestOf(await answer.bytes())).toBe(bigLayer);
    expect(farm.ghcr.cdnRequests.length).toBeGreaterThan(0);
    for (const { headers } of farm.ghcr.cdnRequests) expect(headers.get("authorization")).toBeNull();
  });

  test("[R137] URLs bound to their method work for HEAD too", async () => {
    farm.quay.faults.blob.redirect = {};
    farm.quay.faults.cdn.methodBound = true;
    const head = await farm.ask(path, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length")]).toEqual([200, "3000000"]);
  });

  test("[R136, R137] no redirect is remembered: each request has a fresh URL", async () => {
    farm.quay.faults.blob.redirect = {};
    for (let i = 0; i < 3; i++) {
      const answer = await farm.ask(path);
      expect(digestOf(await answer.bytes())).toBe(bigLayer);
      farm.quay.expireUrls();
    }
    expect([farm.quay.count(), farm.quay.countCdn()]).toEqual([3, 3]);
  });

  test("[R132] manifests are redirected too", async () => {
    farm.quay.faults.manifest.redirect = {};
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect(digestOf(await answer.bytes())).toBe(farm.images.quay.digest);
  });

  test.each([
    ["[R148] in a circle", "loop", "cannot be used"],
    ["[R108, T18] to the metadata address", "http://169.254.169.254/latest/meta-data", "must not be asked"],
    ["[R108] to a private address", "http://10.0.0.5/", "must not be asked"],
    ["[R108, T18] to a decimal address", "http://2852039166/", "must not be asked"],
    ["[R108, T18] to a mapped address", "http://[::ffff:169.254.169.254]/", "must not be asked"],
    ["to a scheme that is none", "file:///etc/passwd", "cannot be used"],
  ])("%s is 502", async (_title, to, why) => {
    farm.quay.faults.blob.redirect = { to };
    const answer = await farm.ask(path);
    expect(answer.status).toBe(502);
    const body = await answer.text();
    expect(body).toContain(why); // refused, and not merely out of reach
    expect(body).not.toContain("169.254");
  });
});

describe("broken transfers", () => {
  async function pull(target = path): Promise<{ received: number; isComplete: boolean; status: number }> {
    const connection = await openRaw(farm.layover.url);
    connection.send(`GET ${target} HTTP/1.1\r\nHost: ${farm.layover.host}\r\nConnection: close\r\n\r\n`);
    const answer = await connection.readAnswer();
    connection.end();
    return { received: answer.body.byteLength, isComplete: answer.isComplete, status: answer.status };
  }

  /** Where each request began, and where it was to end; what a break destroys on its way is asked for again. */
  function asked(): [first: number, last: string | undefined][] {
    return farm.quay.requests.map(({ headers }) => {
      const range = /^bytes=(\d+)-(\d*)$/.exec(headers.get("range") ?? "bytes=0-");
      return [Number(range?.[1]), range?.[2]];
    });
  }

  test.each(["reset", "fin"] as const)("[R262, R272, T3] cut by a %s it goes on by Range", async (cutWith) => {
    Object.assign(farm.quay.faults.blob, { cutAfterBytes: 2_000_000, cutWith, times: 1 });
    const answer = await farm.ask(path);
    expect(digestOf(await answer.bytes())).toBe(bigLayer);
    const [whole, rest, ...more] = asked();
    expect([whole, rest?.[1], more]).toEqual([[0, ""], "", []]);
    expect(rest?.[0]).toBeLessThanOrEqual(2_000_000);
    if (cutWith === "reset") return; // it may destroy all that is on its way
    expect(rest?.[0]).toBeGreaterThan(1_800_000);
    expect(total(await metricsOf(farm.layover.url), "layover_resumed_downloads_total")).toBeGreaterThan(0);
  });

  test.each(["reset", "fin"] as const)("[R262] a part that is cut by a %s goes on to its own end", async (cutWith) => {
    Object.assign(farm.quay.faults.blob, { cutAfterBytes: 900_000, cutWith, times: 1 });
    const answer = await farm.ask(path, { headers: { range: "bytes=500000-1999999" } });
    expect([answer.status, answer.headers.get("content-range")]).toEqual([206, "bytes 500000-1999999/3000000"]);
    expect(Buffer.from(await answer.bytes()).equals(bytes.subarray(500_000, 2_000_000))).toBe(true);
    expect(asked().map(([, last]) => last)).toEqual(["1999999", "1999999"]);
  });

  test.each([
    ["[T12, R235] cut by a reset", "reset"],
    ["[T12, R187, R235] cut by a clean end", "fin"],
  ] as const)("%s and gone at the next try, it breaks the client's connection", async (_title, cutWith) => {
    const { blob } = farm.quay.faults;
    Object.assign(blob, { cutAfterBytes: 1_000_000, cutWith });
    blob.match = ({ lines }) => {
      if (lines.some(([name]) => name.toLowerCase() === "range")) blob.status = 404;
      return true;
    };
    const { received, isComplete, status } = await pull();
    expect([status, isComplete]).toEqual([200, false]);
    expect(received).toBeLessThanOrEqual(1_000_000);
  });

  test("[T12, R236] a body that ends with its connection, too early, is never complete", async () => {
    Object.assign(farm.quay.faults.blob, { framing: "eof", cutAfterBytes: 1_000_000, cutWith: "complete" });
    expect((await pull()).isComplete).toBe(false);
  });

  test("[T12] a chunked body that ends too early is never complete", async () => {
    Object.assign(farm.quay.faults.blob, { framing: "chunked", cutAfterBytes: 1_000_000, cutWith: "complete" });
    expect((await pull()).isComplete).toBe(false);
  });

  test("[R236] a body that ends with its connection, complete, arrives", async () => {
    farm.quay.faults.blob.framing = "eof";
    const answer = await farm.ask(path);
    expect(digestOf(await answer.bytes())).toBe(bigLayer);
  });

  test("[T13, R237] wrong bytes never arrive whole", async () => {
    farm.quay.faults.blob.corrupt = true;
    const { received, isComplete } = await pull();
    expect(isComplete).toBe(false);
    expect(received).toBeLessThan(3_000_000);
    const line = await farm.layover.logLine(({ reason }) => String(reason).startsWith("digest mismatch: expected"));
    expect(line).toMatchObject({ uri: path, complete: false, broken: "body-failed" });
  });

  test("[T13, R234] a page with status 200 is 502", async () => {
    farm.quay.faults.blob.html = true;
    expect((await pull()).status).toBe(502);
  });

  test("[R174, R175] the head is complete while the body still waits", async () => {
    farm.quay.faults.blob.stallAfterBytes = 0;
    const connection = await openRaw(farm.layover.url);
    connection.send(`GET ${path} HTTP/1.1\r\nHost: ${farm.layover.host}\r\nConnection: close\r\n\r\n`);
    const head = await connection.readHead();
    expect(head.status).toBe(200);
    expect(head.header("content-length")).toBe("3000000");
    farm.quay.release();
    const body = await connection.read(3_000_000);
    expect(digestOf(body)).toBe(bigLayer);
    connection.end();
  });

  test("[R261] a client that leaves ends the upstream's transfer", async () => {
    farm.quay.faults.blob.stallAfterBytes = 1_000_000;
    const connection = await openRaw(farm.layover.url);
    connection.send(`GET ${path} HTTP/1.1\r\nHost: ${farm.layover.host}\r\n\r\n`);
    await connection.readHead();
    await farm.quay.untilHeld(1);
    connection.reset();
    const line = await farm.layover.logLine((entry) => entry["uri"] === path && entry["complete"] === false);
    expect(line["status"]).toBe(200);
    while (farm.quay.openAnswers > 0) await Bun.sleep(1); // held until its connection is gone: nobody releases it
  });
});

test("[R112, R155] many blobs at once arrive whole", async () => {
  const layers = Array.from({ length: 24 }, (_, index) => 100_000 + index);
  const image = makeImage({ seed: "many", layers });
  farm.hub.add("org/many", image);
  const answers = await Promise.all(
    [...image.blobs.keys()].map(async (digest) =>
      digestOf(await (await farm.ask(`/v2/org/many/blobs/${digest}`)).bytes()),
    ),
  );
  expect(answers.sort()).toEqual([...image.blobs.keys()].sort());
  expect(farm.hub.tokenRequests.length).toBe(1);
});
