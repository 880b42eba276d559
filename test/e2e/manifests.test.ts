/** Manifests by tag and digest, HEAD and GET, conditional, of every type, and from registries that tell half of it. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { MEDIA_TYPES, digestOf, makeImage, makeIndex } from "../support/images.ts";
import {
  makeLargeManifest,
  makeNestedIndex,
  makeOddlySpacedImage,
  makeSchema1,
  makeSha512Image,
} from "../support/odd-images.ts";
import { type Farm, startFarm } from "../support/farm.ts";
import { rawRequest } from "../support/raw-http.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm();
  farm.quay.add("org/spaced", makeOddlySpacedImage());
  farm.quay.add("org/sha512", makeSha512Image());
  farm.quay.add("org/large", makeLargeManifest());
  farm.quay.add("org/nested", makeNestedIndex());
  farm.quay.add("org/schema1", makeSchema1("org/schema1"));
  farm.quay.add("org/list", makeIndex([makeImage({ mediaTypes: "docker" })], { mediaTypes: "docker" }));
});
afterAll(() => farm.stop());
beforeEach(() => farm.reset());

async function json(response: Response): Promise<{ errors: { code: string }[] }> {
  return (await response.json()) as { errors: { code: string }[] };
}

describe("content", () => {
  const rows: [title: string, repository: string, mediaType: string][] = [
    ["[R24] odd white space", "org/spaced", MEDIA_TYPES.ociManifest],
    ["[R19] sha512", "org/sha512", MEDIA_TYPES.ociManifest],
    ["[R45] 4 MiB", "org/large", MEDIA_TYPES.ociManifest],
    ["[R47, T15] an index in an index", "org/nested", MEDIA_TYPES.ociIndex],
    ["[R23] a docker list", "org/list", MEDIA_TYPES.dockerList],
    ["[R23] a docker manifest", "org/app", MEDIA_TYPES.dockerManifest],
  ];
  test.each(rows)(
    "%s arrives byte for byte, by tag and by digest, GET and HEAD",
    async (_title, repository, mediaType) => {
      const byTag = await farm.ask(`/v2/quay/${repository}/manifests/latest`);
      const bytes = await byTag.bytes();
      expect(byTag.status).toBe(200);
      expect(byTag.headers.get("content-type")).toBe(mediaType);
      const sha256 = digestOf(bytes);
      expect(byTag.headers.get("docker-content-digest")).toBe(sha256);
      const digest = repository === "org/sha512" ? digestOf(bytes, "sha512") : sha256;
      const byDigest = await farm.ask(`/v2/quay/${repository}/manifests/${digest}`);
      expect(byDigest.headers.get("docker-content-digest")).toBe(digest);
      expect(byDigest.headers.get("etag")).toBe(`"${digest}"`);
      expect(Buffer.from(await byDigest.bytes())).toEqual(Buffer.from(bytes));
      const head = await farm.ask(`/v2/quay/${repository}/manifests/${digest}`, { method: "HEAD" });
      expect(head.headers.get("content-length")).toBe(String(bytes.byteLength));
      expect(head.headers.get("content-type")).toBe(mediaType);
      expect(head.headers.get("docker-content-digest")).toBe(digest);
      expect(await head.text()).toBe("");
    },
  );

  test("[R252] a digest with %3A is the same digest", async () => {
    const answer = await farm.ask(`/v2/quay/org/app/manifests/${farm.images.quay.digest.replace(":", "%3A")}`);
    expect(answer.headers.get("docker-content-digest")).toBe(farm.images.quay.digest);
    await answer.bytes();
  });

  test("[R217] a signed schema 1 manifest passes with the registry's own digest", async () => {
    const answer = await farm.ask("/v2/quay/org/schema1/manifests/latest");
    expect(answer.status).toBe(200);
    const body = await answer.bytes();
    expect(answer.headers.get("docker-content-digest")).toBe(makeSchema1("org/schema1").digest);
    expect(answer.headers.get("docker-content-digest")).not.toBe(digestOf(body));
    expect(answer.headers.get("content-type")).toBe(MEDIA_TYPES.schema1);
  });

  test("[R5, R220, R227, R250] the lines of the answer are ours, and the upstream's private ones stay there", async () => {
    farm.quay.faults.manifest.headers = [
      ["Set-Cookie", "a=b"],
      ["Server", "x"],
      ["Alt-Svc", 'h3=":443"'],
      ["ratelimit-remaining", "3;w=21600"],
      ["x-amz-id-2", "y"],
      ["Strict-Transport-Security", "max-age=1"],
      ["X-Registry-Supports-Signatures", "1"],
    ];
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    await answer.bytes();
    for (const name of [
      "set-cookie",
      "server",
      "alt-svc",
      "ratelimit-remaining",
      "x-amz-id-2",
      "strict-transport-security",
      "x-registry-supports-signatures",
    ]) {
      expect([name, answer.headers.get(name)]).toEqual([name, null]);
    }
    expect(answer.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
    expect(answer.headers.get("cache-control")).toContain("no-transform");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    expect(answer.headers.get("content-security-policy")).toBe("sandbox");
  });

  test("[R44, R43] If-None-Match with the digest is 304 without a body", async () => {
    const { digest } = farm.images.quay;
    for (const tag of [`"${digest}"`, `W/"${digest}"`, `"x", "${digest}"`, "*"]) {
      const answer = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { "if-none-match": tag } });
      expect(answer.status).toBe(304);
      expect(answer.headers.get("etag")).toBe(`"${digest}"`);
      expect(await answer.text()).toBe("");
    }
    const other = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { "if-none-match": '"other"' } });
    expect(other.status).toBe(200);
    await other.bytes();
  });

  test("[R273] Range on a manifest is ignored", async () => {
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { range: "bytes=0-9" } });
    expect(answer.status).toBe(200);
    expect(digestOf(await answer.bytes())).toBe(farm.images.quay.digest);
  });
});

describe("what the upstream is asked", () => {
  test("[R20, R208] HEAD stays HEAD", async () => {
    await farm.ask("/v2/quay/org/app/manifests/latest", { method: "HEAD" });
    expect(farm.quay.requests.map(({ method }) => method)).toEqual(["HEAD"]);
  });

  test("[R29, R143] an Accept without a manifest type becomes the full list", async () => {
    for (const accept of ["*/*", "application/json", ""])
      await (await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { accept } })).bytes();
    for (const { headers } of farm.quay.requests) expect(headers.get("accept")).toContain(MEDIA_TYPES.ociIndex);
  });

  test("[R30] an Accept of several lines is one list", async () => {
    const types = [MEDIA_TYPES.dockerManifest, MEDIA_TYPES.ociIndex];
    const lines = types.map((type) => `Accept: ${type}`);
    expect((await rawRequest(farm.layover.url, "GET /v2/quay/org/app/manifests/latest", lines)).status).toBe(200);
    expect(farm.quay.requests.at(-1)?.headers.get("accept")).toBe(types.join(", "));
  });

  test("[R28] an Accept that names manifest types goes on as it came", async () => {
    const accept = `${MEDIA_TYPES.dockerManifest}, ${MEDIA_TYPES.dockerList};q=0.5`;
    await (await farm.ask("/v2/quay/org/app/manifests/latest", { headers: { accept } })).bytes();
    expect(farm.quay.requests.at(-1)?.headers.get("accept")).toBe(accept);
  });

  test("[R173, R183, R224, R231] only what belongs to the request goes on", async () => {
    const headers = {
      "accept-encoding": "zstd;q=1.0, gzip;q=0.8",
      "x-forwarded-for": "1.2.3.4",
      "x-registry-auth": "s",
      cookie: "a=b",
      "user-agent": "containerd/2.3",
    };
    await (await farm.ask("/v2/quay/org/app/manifests/latest", { headers })).bytes();
    const sent = farm.quay.requests.at(-1)?.headers;
    for (const name of ["accept-encoding", "x-forwarded-for", "x-registry-auth", "cookie", "authorization"])
      expect([name, sent?.get(name)]).toEqual([name, null]);
    expect(sent?.get("user-agent")).toStartWith("layover/");
    expect(sent?.get("via")).toStartWith("1.1 layover-");
  });
});

describe("registries that tell less", () => {
  test("[R21, R140, R168, R198] HEAD without a length is answered from a GET", async () => {
    Object.assign(farm.quay.faults.manifest, {
      contentLength: false,
      match: ({ method }: { method: string }) => method === "HEAD",
    });
    const head = await farm.ask("/v2/quay/org/app/manifests/latest", { method: "HEAD" });
    const { digest, manifests } = farm.images.quay;
    expect(head.headers.get("docker-content-digest")).toBe(digest);
    expect(head.headers.get("content-length")).toBe(String(manifests.get(digest)?.bytes.byteLength));
  });

  test("[R18, R168] HEAD without a digest is answered from a GET", async () => {
    farm.quay.faults.manifest.digestHeader = false;
    const head = await farm.ask("/v2/quay/org/app/manifests/latest", { method: "HEAD" });
    expect(head.headers.get("docker-content-digest")).toBe(farm.images.quay.digest);
  });

  test("[R169] HEAD that is refused with 405 is answered from a GET", async () => {
    farm.quay.faults.manifest.headStatus = 405;
    const head = await farm.ask("/v2/quay/org/app/manifests/latest", { method: "HEAD" });
    expect(head.status).toBe(200);
    expect(head.headers.get("docker-content-digest")).toBe(farm.images.quay.digest);
  });

  test("[R218] a wrong digest header is not passed on", async () => {
    farm.quay.faults.manifest.digestHeader = `sha256:${"0".repeat(64)}`;
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect(answer.headers.get("docker-content-digest")).toBe(farm.images.quay.digest);
    await answer.bytes();
  });

  test("[R225] a body that came compressed is passed on plain, with the right digest", async () => {
    farm.quay.faults.manifest.gzip = true;
    const answer = await farm.ask(`/v2/quay/org/app/manifests/${farm.images.quay.digest}`);
    expect(answer.headers.get("content-encoding")).toBeNull();
    expect(digestOf(await answer.bytes())).toBe(farm.images.quay.digest);
  });

  test("[R221] a body of unknown length upstream has one here", async () => {
    farm.quay.faults.manifest.framing = "chunked";
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect(answer.headers.get("transfer-encoding")).toBeNull();
    expect(answer.headers.get("content-length")).toBe(String((await answer.bytes()).byteLength));
  });

  test("[R22] a type with parameters loses them", async () => {
    farm.quay.faults.manifest.contentType = `${MEDIA_TYPES.dockerManifest}; charset=utf-8`;
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect(answer.headers.get("content-type")).toBe(MEDIA_TYPES.dockerManifest);
    await answer.bytes();
  });

  test("[R23] where the type says nothing the document's own field does, and never a member's", async () => {
    const [member = makeImage()] = [makeImage({ seed: "member" })];
    const index = makeIndex([member]);
    const text = new TextDecoder().decode(index.manifests.get(index.digest)?.bytes);
    const untyped = new TextEncoder().encode(text.replace(/"mediaType":"[^"]*",/, ""));
    const manifests = new Map([[digestOf(untyped), { bytes: untyped, mediaType: "application/json" }]]);
    farm.quay.add("org/untyped", { blobs: new Map(), manifests, tags: new Map([["latest", digestOf(untyped)]]) });
    farm.quay.add("org/typed", index);
    farm.quay.faults.manifest.contentType = "application/json";
    const typed = await farm.ask("/v2/quay/org/typed/manifests/latest");
    expect([typed.status, typed.headers.get("content-type")]).toEqual([200, MEDIA_TYPES.ociIndex]);
    await typed.bytes();
    expect((await farm.ask("/v2/quay/org/untyped/manifests/latest")).status).toBe(502);
  });

  test("[R37, R38] two warnings arrive as two lines", async () => {
    farm.quay.faults.manifest.headers = [
      ["Warning", '299 - "one, and"'],
      ["Warning", '299 - "two"'],
    ];
    const answer = await rawRequest(farm.layover.url, "GET /v2/quay/org/app/manifests/latest");
    expect(answer.all("warning")).toEqual(['299 - "one, and"', '299 - "two"']);
  });
});

describe("what must not pass", () => {
  test("[T13, R19] bytes that are not the digest's are 502", async () => {
    farm.quay.faults.manifest.corrupt = true;
    const answer = await farm.ask(`/v2/quay/org/app/manifests/${farm.images.quay.digest}`);
    expect(answer.status).toBe(502);
    expect((await json(answer)).errors[0]?.code).toBe("UNAVAILABLE");
  });

  test("[T13, R234] a page with status 200 is 502", async () => {
    farm.quay.faults.manifest.html = true;
    expect((await farm.ask("/v2/quay/org/app/manifests/latest")).status).toBe(502);
  });

  test("[R45] a manifest beyond every limit is refused, not cut", async () => {
    farm.quay.add("org/huge", makeLargeManifest(9 * 1024 * 1024));
    expect((await farm.ask("/v2/quay/org/huge/manifests/latest")).status).toBe(502);
  });

  test("[R26] an unknown tag and digest are 404 with JSON", async () => {
    for (const reference of ["missing", `sha256:${"1".repeat(64)}`]) {
      const answer = await farm.ask(`/v2/quay/org/app/manifests/${reference}`);
      expect(answer.status).toBe(404);
      expect((await json(answer)).errors[0]?.code).toBe("MANIFEST_UNKNOWN");
    }
  });

  test("[R35] the registry's own 404 code is kept", async () => {
    farm.quay.faults.manifest.status = 404;
    farm.quay.faults.manifest.code = "NAME_UNKNOWN";
    expect((await json(await farm.ask("/v2/quay/org/app/manifests/latest"))).errors[0]?.code).toBe("NAME_UNKNOWN");
  });

  test("a 404 with a page becomes one with JSON", async () => {
    farm.quay.faults.manifest.status = 404;
    farm.quay.faults.manifest.body = "<html>no</html>";
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect((await json(answer)).errors[0]?.code).toBe("MANIFEST_UNKNOWN");
  });
});

describe("an upstream in trouble", () => {
  test("[R39, T8] 429 stays 429 with its Retry-After, and gets one where there is none", async () => {
    const own = await startFarm();
    own.quay.faults.manifest = { status: 429, retryAfter: "77" };
    const told = await own.ask("/v2/quay/org/app/manifests/latest");
    expect([told.status, told.headers.get("retry-after")]).toEqual([429, "77"]);
    expect((await json(told)).errors[0]?.code).toBe("TOOMANYREQUESTS");
    own.ghcr.faults.manifest = { status: 429 };
    const untold = await own.ask("/v2/ghcr/org/app/manifests/latest");
    expect(Number(untold.headers.get("retry-after"))).toBeGreaterThan(0);
    await untold.text();
    await own.stop();
  });

  test.each([
    ["<html>Too Many Requests (HAP429)</html>", "text/html"],
    ["toomanyrequests: You have reached your unauthenticated pull rate limit.", "text/plain"],
    ["", "application/json"],
    ['{"errors":[{"code":"DENIED"}]}', "application/json"],
  ] as const)("[R210] 429 is JSON for the client, whatever the registry's page looks like: %s", async (body, type) => {
    const own = await startFarm();
    own.quay.faults.manifest = { status: 429, body, contentType: type };
    own.quay.faults.tags = { status: 429, body, contentType: type };
    for (const path of ["manifests/latest", "tags/list"]) {
      const answer = await own.ask(`/v2/quay/org/app/${path}`);
      expect(answer.status).toBe(429);
      expect((await json(answer)).errors[0]?.code).toBe("TOOMANYREQUESTS");
    }
    await own.stop();
  });

  test("[R39, R178] a storm of fifty is told 429 fifty times, at once, and none is asked twice", async () => {
    const own = await startFarm();
    own.quay.faults.manifest.status = 429;
    const answers = await Promise.all(Array.from({ length: 50 }, () => own.ask("/v2/quay/org/app/manifests/latest")));
    for (const answer of answers) {
      expect([answer.status, Number(answer.headers.get("retry-after")) > 0]).toEqual([429, true]);
      await answer.text();
    }
    expect(own.quay.count()).toBeLessThanOrEqual(50);
    await own.stop();
  });

  test("[R262] a 503 that passes is not seen by the client", async () => {
    farm.quay.faults.manifest.status = 503;
    farm.quay.faults.manifest.times = 1;
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect(answer.status).toBe(200);
    await answer.bytes();
  });

  test("[R280] a 500 that stays is 502, a connection that breaks too, never 404", async () => {
    farm.quay.faults.manifest.status = 500;
    expect((await farm.ask("/v2/quay/org/app/manifests/latest")).status).toBe(502);
    farm.reset();
    farm.quay.faults.manifest.hangUp = "reset";
    expect((await farm.ask("/v2/quay/org/app/manifests/latest")).status).toBe(502);
  });

  test("[R257] connections that the upstream closed while idle cost nothing", async () => {
    await (await farm.ask("/v2/quay/org/app/manifests/latest")).bytes();
    farm.quay.closeIdle();
    const answer = await farm.ask("/v2/quay/org/app/manifests/latest");
    expect(answer.status).toBe(200);
    await answer.bytes();
  });
});
