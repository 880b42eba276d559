/** The fake must lie exactly as told: a fault that does nothing would make every test that uses it pass for nothing. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { gunzipSync } from "node:zlib";
import { createFakeRegistry, type FakeRegistry } from "../../support/fake-registry.ts";
import { bigHeaders, NOISY_HEADERS } from "../../support/fake-faults.ts";
import { digestOf, makeArtifact, makeImage } from "../../support/images.ts";
import { rawRequest } from "../../support/raw-http.ts";

const image = makeImage({ layers: [5000, 10], seed: "fake" });
const layer = [...image.blobs.keys()].at(-2) ?? "";
const raw = { redirect: "manual", decompress: false } as const;
let registry: FakeRegistry;

beforeEach(async () => {
  registry = await createFakeRegistry({
    users: { alice: { password: "secret" } },
    privateRepositories: ["private/**"],
  });
  registry.add("org/app", image);
  registry.add("private/app", image);
});
afterEach(() => registry.close());

const get = (path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(registry.url + path, { ...raw, ...init });
const bytesOf = async (response: Response): Promise<Uint8Array> => new Uint8Array(await response.arrayBuffer());

describe("createFakeRegistry() serves", () => {
  test("manifests by tag and digest with type, digest and length", async () => {
    for (const reference of ["latest", image.digest]) {
      const response = await get(`/v2/org/app/manifests/${reference}`);
      expect(response.headers.get("content-type")).toBe(image.mediaType);
      expect(response.headers.get("docker-content-digest")).toBe(image.digest);
      const bytes = await bytesOf(response);
      expect(response.headers.get("content-length")).toBe(String(bytes.length));
      expect(digestOf(bytes)).toBe(image.digest);
    }
    expect(registry.count({ path: /manifests/ })).toBe(2);
  });

  test("blobs whole, by HEAD and by range", async () => {
    const path = `/v2/org/app/blobs/${layer}`;
    expect(digestOf(await bytesOf(await get(path)))).toBe(layer);
    const head = await get(path, { method: "HEAD" });
    expect([head.headers.get("content-length"), head.headers.get("accept-ranges")]).toEqual(["5000", "bytes"]);
    for (const [range, answer, length] of [
      ["bytes=0-", "bytes 0-4999/5000", 5000],
      ["bytes=100-199", "bytes 100-199/5000", 100],
      ["bytes=-5", "bytes 4995-4999/5000", 5],
      ["bytes=4990-9999", "bytes 4990-4999/5000", 10],
      ["bytes=5000-", "bytes */5000", 0],
    ] as const) {
      const part = await get(path, { headers: { range } });
      expect([part.status, part.headers.get("content-range")]).toEqual([length === 0 ? 416 : 206, answer]);
      expect((await bytesOf(part)).length).toBe(length);
    }
    expect(registry.bytesSent).toBe(5000 + 5000 + 100 + 5 + 10);
  });

  test("404 with the right code for each missing thing", async () => {
    const zero = `sha256:${"0".repeat(64)}`;
    for (const [path, code] of [
      ["/v2/no/such/manifests/latest", "NAME_UNKNOWN"],
      ["/v2/org/app/manifests/none", "MANIFEST_UNKNOWN"],
      [`/v2/org/app/blobs/${zero}`, "BLOB_UNKNOWN"],
      ["/elsewhere", "UNSUPPORTED"],
    ] as const) {
      const response = await get(path);
      expect([response.status, ((await response.json()) as { errors: { code: string }[] }).errors[0]?.code]).toEqual([
        404,
        code,
      ]);
    }
  });

  test("tags in pages with a Link, and referrers with a filter", async () => {
    for (const tag of ["a", "b", "c"]) registry.add("org/app", makeImage({ tags: [tag] }));
    const first = await get("/v2/org/app/tags/list?n=2");
    expect(await first.json()).toEqual({ name: "org/app", tags: ["a", "b"] });
    expect(first.headers.get("link")).toBe('</v2/org/app/tags/list?last=b&n=2>; rel="next"');
    registry.faults.tags.link = "absolute";
    expect((await get("/v2/org/app/tags/list?n=2")).headers.get("link")).toStartWith(`<${registry.url}/v2/`);
    registry.add("org/app", makeArtifact({ subject: image, artifactType: "x/y" }));
    const all = await get(`/v2/org/app/referrers/${image.digest}`);
    expect(((await all.json()) as { manifests: object[] }).manifests).toHaveLength(1);
    const none = await get(`/v2/org/app/referrers/${image.digest}?artifactType=other`);
    expect(none.headers.get("oci-filters-applied")).toBe("artifactType");
    expect(((await none.json()) as { manifests: object[] }).manifests).toHaveLength(0);
  });
});

describe("createFakeRegistry() authenticates", () => {
  async function token(scope: string, init: RequestInit = {}): Promise<string> {
    const response = await fetch(`${registry.tokenUrl}/token?service=fake-registry&scope=${scope}`, init);
    return ((await response.json()) as { token: string }).token;
  }
  const basic = { authorization: `Basic ${btoa("alice:secret")}` };

  test("with tokens: challenge, anonymous pull, private repositories, expiry", async () => {
    registry.auth = "bearer";
    const bare = await get("/v2/org/app/manifests/latest");
    expect(bare.status).toBe(401);
    expect(bare.headers.get("www-authenticate")).toBe(
      `Bearer realm="${registry.tokenUrl}/token",service="fake-registry",scope="repository:org/app:pull"`,
    );
    const anonymous = { authorization: `Bearer ${await token("repository:org/app:pull")}` };
    expect((await get("/v2/org/app/manifests/latest", { headers: anonymous })).status).toBe(200);
    const refused = { authorization: `Bearer ${await token("repository:private/app:pull")}` };
    const answer = await get("/v2/private/app/manifests/latest", { headers: refused });
    expect([answer.status, answer.headers.get("www-authenticate")?.endsWith('error="insufficient_scope"')]).toEqual([
      401,
      true,
    ]);
    const own = { authorization: `Bearer ${await token("repository:private/app:pull", { headers: basic })}` };
    expect((await get("/v2/private/app/manifests/latest", { headers: own })).status).toBe(200);
    registry.expireTokens();
    const late = await get("/v2/private/app/manifests/latest", { headers: own });
    expect([late.status, late.headers.get("www-authenticate")?.endsWith('error="invalid_token"')]).toEqual([401, true]);
    expect(registry.tokenRequests).toHaveLength(3);
  });

  test("with tokens by OAuth2 POST and a refresh token", async () => {
    const post = (form: Record<string, string>) =>
      fetch(`${registry.tokenUrl}/token`, {
        method: "POST",
        body: new URLSearchParams({ scope: "repository:private/app:pull", ...form }),
      });
    const first = await post({ grant_type: "password", username: "alice", password: "secret", access_type: "offline" });
    const { refresh_token } = (await first.json()) as { refresh_token: string };
    expect((await post({ grant_type: "refresh_token", refresh_token })).status).toBe(200);
    expect((await post({ grant_type: "refresh_token", refresh_token: "other" })).status).toBe(401);
    expect((await post({ grant_type: "password", username: "alice", password: "wrong" })).status).toBe(401);
  });

  test("with Basic", async () => {
    registry.auth = "basic";
    expect((await get("/v2/")).headers.get("www-authenticate")).toBe('Basic realm="fake"');
    expect((await get("/v2/private/app/manifests/latest", { headers: basic })).status).toBe(200);
  });

  test("with the quirks of real registries", async () => {
    registry.auth = "bearer";
    const challengeOf = async (path: string, headers: Record<string, string> = {}) =>
      (await get(path, { headers })).headers.get("www-authenticate");
    registry.faults.auth.placeholderScope = true;
    expect(await challengeOf("/v2/")).toContain('scope="repository:user/image:pull"');
    registry.faults.auth = { noService: true };
    expect(await challengeOf("/v2/")).toBe(`Bearer realm="${registry.tokenUrl}/token"`);
    registry.faults.auth = { realmSwitch: true };
    expect(await challengeOf("/v2/", { authorization: "Bearer stale" })).toContain("/switched-token");
    expect((await fetch(`${registry.tokenUrl}/switched-token`)).status).toBe(401);
    registry.faults.auth = { silentResources: true };
    expect(await challengeOf("/v2/org/app/manifests/latest")).toBeNull();
    expect(await challengeOf("/v2/")).toStartWith("Bearer");
    registry.faults.auth = { challengesBefore: ["Negotiate", 'Basic realm="x"'] };
    expect(await challengeOf("/v2/")).toStartWith('Negotiate, Basic realm="x", Bearer ');
    registry.faults.token = { refusesPushScope: true };
    expect((await fetch(`${registry.tokenUrl}/token?scope=repository:org/app:pull,push`)).status).toBe(403);
    registry.faults.token = {
      expiresIn: "soon",
      fields: ["access_token"],
      contentType: "text/plain",
      tokenLength: 9000,
    };
    const odd = await fetch(`${registry.tokenUrl}/token?scope=repository:org/app:pull`);
    expect(odd.headers.get("content-type")).toBe("text/plain");
    const body = (await odd.json()) as Record<string, string>;
    expect([body["token"], body["access_token"]?.length, body["expires_in"]]).toEqual([undefined, 9000, "soon"]);
    registry.faults.token = { denies: true };
    expect((await fetch(`${registry.tokenUrl}/token?scope=repository:private/app:pull`)).status).toBe(403);
  });
});

describe("createFakeRegistry() redirects", () => {
  const path = `/v2/org/app/blobs/${layer}`;
  const locationOf = async (at: string, method = "GET"): Promise<string> =>
    (await fetch(at, { ...raw, method })).headers.get("location") ?? "none";

  test("to the CDN, which refuses Authorization, expired URLs and other methods", async () => {
    registry.faults.blob.redirect = {};
    const first = await get(path);
    expect(first.status).toBe(307);
    const url = first.headers.get("location") ?? "";
    expect(url).toStartWith(registry.cdnUrl);
    expect(digestOf(await bytesOf(await fetch(url)))).toBe(layer);
    expect((await fetch(url, { headers: { range: "bytes=1-2" } })).status).toBe(206);
    expect((await fetch(url, { headers: { authorization: "Bearer x" } })).status).toBe(400);
    registry.faults.cdn.methodBound = true;
    expect((await fetch(url, { method: "HEAD" })).status).toBe(403);
    registry.expireUrls();
    expect((await fetch(url)).status).toBe(403);
    expect(registry.countCdn()).toBe(5);
  });

  test("relatively, in chains, in a loop, and to a given place", async () => {
    registry.faults.blob.redirect = { to: "relative", hops: 1 };
    const first = await locationOf(registry.url + path);
    expect(first).toBe(`/artifacts-downloads/1${path}`);
    const second = await locationOf(registry.url + first);
    expect(second).toBe(`/artifacts-downloads/0${path}`);
    expect(digestOf(await bytesOf(await get(second)))).toBe(layer);
    registry.faults.blob.redirect = { hops: 2 };
    let url = await locationOf(registry.url + path);
    for (let hop = 0; hop < 2; hop++) url = new URL(await locationOf(url), url).href;
    expect(digestOf(await bytesOf(await fetch(url, raw)))).toBe(layer);
    registry.faults.blob.redirect = { to: "loop", status: 301 };
    expect(await locationOf(registry.url + path)).toBe(path);
    registry.faults.manifest.redirect = { to: "http://169.254.169.254/latest/meta-data", methods: ["GET"] };
    expect(await locationOf(`${registry.url}/v2/org/app/manifests/latest`)).toBe(
      "http://169.254.169.254/latest/meta-data",
    );
    expect((await get("/v2/org/app/manifests/latest", { method: "HEAD" })).status).toBe(200);
  });
});

describe("createFakeRegistry() spoils answers", () => {
  const path = `/v2/org/app/blobs/${layer}`;
  /** Body bytes that arrived, and whether the client took the body for complete. */
  async function arrived(): Promise<[number, "complete" | "broken"]> {
    try {
      // By bytes: fetch may drop what came just before the connection ended.
      const { body, isComplete } = await rawRequest(registry.url, `GET ${path}`);
      return [body.byteLength, isComplete ? "complete" : "broken"];
    } catch {
      return [0, "broken"]; // no head came
    }
  }

  test("by framing, cut and reset", async () => {
    for (const [faults, expected] of [
      [{ framing: "chunked" }, [5000, "complete"]],
      [{ framing: "eof" }, [5000, "complete"]],
      [{ cutAfterBytes: 1000, cutWith: "fin" }, [1000, "broken"]],
      [{ framing: "chunked", cutAfterBytes: 1000, cutWith: "fin" }, [1000, "broken"]],
      [{ framing: "chunked", cutAfterBytes: 1000, cutWith: "complete" }, [1000, "complete"]],
      [{ framing: "eof", cutAfterBytes: 1000, cutWith: "fin" }, [1000, "complete"]],
      [{ hangUp: "fin" }, [0, "broken"]],
      [{ hangUp: "reset" }, [0, "broken"]],
    ] as const) {
      registry.faults.blob = { ...faults };
      expect([faults, ...(await arrived())]).toEqual([faults, ...expected]);
    }
    registry.faults.blob = { cutAfterBytes: 1000, cutWith: "reset" };
    expect((await arrived())[1]).toBe("broken");
  });

  test("by wrong bytes, types, digests, lengths and ranges", async () => {
    registry.faults.blob = { corrupt: true, digestHeader: "sha256:lie", contentType: "binary/octet-stream" };
    const corrupt = await get(path);
    expect(corrupt.headers.get("docker-content-digest")).toBe("sha256:lie");
    expect(corrupt.headers.get("content-type")).toBe("binary/octet-stream");
    const bytes = await bytesOf(corrupt);
    expect(bytes.length).toBe(5000);
    expect(digestOf(bytes)).not.toBe(layer);
    registry.faults.blob = { html: true };
    expect((await get(path)).headers.get("content-type")).toBe("text/html");
    registry.faults.blob = { gzip: true };
    const gzipped = await get(path);
    expect(gzipped.headers.get("content-encoding")).toBe("gzip");
    expect(digestOf(gunzipSync(await bytesOf(gzipped)))).toBe(layer);
    registry.faults.blob = { contentLength: false };
    expect((await get(path, { method: "HEAD" })).headers.get("content-length")).toBeNull();
    registry.faults.blob = { ignoreRange: true };
    expect((await get(path, { headers: { range: "bytes=1-" } })).status).toBe(200);
    registry.faults.blob = { contentRange: "bytes 0-1/2" };
    expect((await get(path, { headers: { range: "bytes=1-" } })).headers.get("content-range")).toBe("bytes 0-1/2");
    registry.faults.blob = { headStatus: 401 };
    expect([(await get(path, { method: "HEAD" })).status, (await get(path)).status]).toEqual([401, 200]);
  });

  test("by status, the first k times or for matching requests only", async () => {
    registry.faults.manifest = { status: 429, retryAfter: "7", times: 2 };
    const statuses = [];
    for (let turn = 0; turn < 3; turn++) statuses.push((await get("/v2/org/app/manifests/latest")).status);
    expect(statuses).toEqual([429, 429, 200]);
    registry.faults.manifest = {
      status: 503,
      match: ({ path: at }) => at.endsWith("/latest"),
      body: "busy",
      contentType: "text/plain",
    };
    expect(await (await get("/v2/org/app/manifests/latest")).text()).toBe("busy");
    expect((await get(`/v2/org/app/manifests/${image.digest}`)).status).toBe(200);
    registry.faults.referrers = { status: 406 };
    expect((await get(`/v2/org/app/referrers/${image.digest}`)).status).toBe(406);
  });

  test("by headers, many and large", async () => {
    registry.faults.manifest.headers = [...NOISY_HEADERS];
    const noisy = await get("/v2/org/app/manifests/latest");
    expect(noisy.headers.getSetCookie()).toHaveLength(2);
    expect(noisy.headers.get("warning")).toBe('299 - "first, with a comma", 299 - "second"');
    registry.faults.manifest.headers = bigHeaders(60_000);
    expect((await get("/v2/org/app/manifests/latest")).headers.get("x-big-3")).toHaveLength(4000);
  });

  test("by stalling until released, before the head and in the body", async () => {
    registry.faults.blob = { stallBeforeHeaders: true };
    const waiting = get(path);
    await registry.untilHeld(1);
    registry.faults.blob = {};
    registry.release();
    expect((await waiting).status).toBe(200);
    registry.faults.blob = { stallAfterBytes: 1000 };
    const response = await get(path);
    const reader = response.body?.getReader();
    expect((await reader?.read())?.value?.length).toBe(1000);
    await registry.untilHeld(1);
    registry.release();
    let rest = 0;
    for (;;) {
      const chunk = await reader?.read();
      if (chunk === undefined || chunk.done) break;
      rest += chunk.value.length;
    }
    expect(rest).toBe(4000);
  });
});

test("close() throws when an answer is still open", async () => {
  const left = await createFakeRegistry();
  left.add("org/app", image);
  left.faults.blob.stallBeforeHeaders = true;
  const pending = fetch(`${left.url}/v2/org/app/blobs/${layer}`).catch(() => "broken");
  await left.untilHeld(1);
  await expect(left.close()).rejects.toThrow("expected no open answer");
  expect(await pending).toBe("broken");
});
