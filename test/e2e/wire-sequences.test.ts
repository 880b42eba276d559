/**
 * What each client sends to pull, byte by byte and in its order, and what it needs of the answers (protocol section 4).
 * The clients themselves run in test/clients; here is what of them a server can get wrong.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { basicHeader, type Farm, layerOf, startFarm } from "../support/farm.ts";
import type { AnswerFaults } from "../support/fake-faults.ts";
import { digestOf, makeArtifact, makeImage, makeIndex, MEDIA_TYPES } from "../support/images.ts";
import { openRaw, type RawAnswer } from "../support/raw-http.ts";
import { challengeOf, jsonOf, openClient, refusalOf, type WireClient } from "../support/wire-client.ts";

const MIB = 1024 * 1024;
const amd64 = makeImage({ seed: "wire/amd64", layers: [300_000, 2_000, 50], tags: [] });
const arm64 = makeImage({ seed: "wire/arm64", platform: { os: "linux", architecture: "arm64" }, tags: [] });
const multi = makeIndex([amd64, arm64], { tags: ["latest", "1.0.0_build.5"] });
const [config = "", ...layers] = [...amd64.blobs.keys()];
const big = makeImage({ seed: "wire/big", layers: [9 * MIB] });
const bigLayer = layerOf(big);
const bigBytes = big.blobs.get(bigLayer) ?? new Uint8Array();

let farm: Farm;
let client: WireClient | undefined;
beforeAll(async () => {
  farm = await startFarm({ entries: { quay: { hosts: ["quay.io", "quay.test:5000"] } } });
  for (const registry of [farm.hub, farm.quay, farm.ghcr]) {
    registry.add("org/multi", multi);
    registry.add("org/big", big);
  }
  farm.hub.add("library/multi", multi);
});
afterAll(() => farm.stop());
beforeEach(() => {
  client?.end();
  farm.reset();
});

async function connect(agent: string, ...lines: string[]): Promise<WireClient> {
  client = await openClient(farm.layover.url, `User-Agent: ${agent}`, ...lines);
  return client;
}

/** Where quay and ghcr limit their pulls: that is remembered, so it is a farm of its own. */
async function startLimited(fault: AnswerFaults, agent: string, ...lines: string[]) {
  const limited = await startFarm();
  for (const registry of [limited.quay, limited.ghcr])
    Object.assign(registry.faults.manifest, { ...fault, status: 429 });
  const { ask, end } = await openClient(limited.layover.url, `User-Agent: ${agent}`, ...lines);
  return {
    ask,
    quay: limited.quay,
    async [Symbol.asyncDispose]() {
      end();
      await limited.stop();
    },
  };
}

/** The path and query of an anonymous token for a challenge, as clients build it from realm, service and scope. */
function tokenPath({ realm = "", service = "", scope = "" }: Record<string, string>, ...scopes: string[]): string {
  const url = new URL(realm);
  expect(url.origin).toBe(farm.layover.url);
  url.searchParams.append("service", service);
  for (const each of scopes.length > 0 ? scopes : [scope]) url.searchParams.append("scope", each);
  return `${url.pathname}${url.search}`;
}

function tokenOf(answer: RawAnswer): string {
  expect(answer.status).toBe(200);
  return `Authorization: Bearer ${jsonOf<{ token: string }>(answer).token}`;
}

/** A manifest answer whose three headers agree with the image; GET and HEAD. */
function expectManifest(answer: RawAnswer, image: typeof multi, method: "GET" | "HEAD"): void {
  const size = multi.manifests.get(image.digest)?.bytes.byteLength;
  expect([
    answer.status,
    answer.header("content-type"),
    answer.header("docker-content-digest"),
    answer.header("content-length"),
  ]).toEqual([200, image.mediaType, image.digest, String(size)]);
  if (method === "GET") expect(digestOf(answer.body)).toBe(image.digest);
  else expect(answer.body.byteLength).toBe(0);
}

function expectBlob(answer: RawAnswer, digest: string): void {
  expect([answer.status, answer.header("content-length"), answer.header("accept-ranges")]).toEqual([
    200,
    String(answer.body.byteLength),
    "bytes",
  ]);
  expect(digestOf(answer.body)).toBe(digest);
}

/** From `first` to the end, as a resumed or parallel download asks. */
function expectRest(answer: RawAnswer, first: number, whole = bigBytes): void {
  expect([answer.status, answer.all("content-range")]).toEqual([
    206,
    [`bytes ${first}-${whole.byteLength - 1}/${whole.byteLength}`],
  ]);
  expect(Buffer.from(answer.body)).toEqual(Buffer.from(whole.subarray(first)));
}

const DOCKER_ACCEPT = [MEDIA_TYPES.dockerManifest, MEDIA_TYPES.dockerList, MEDIA_TYPES.ociIndex].map(
  (type) => `Accept: ${type}`,
);
const CONTAINERD_ACCEPT = `Accept: ${[MEDIA_TYPES.dockerManifest, MEDIA_TYPES.dockerList, MEDIA_TYPES.ociManifest, MEDIA_TYPES.ociIndex, "*/*"].join(", ")}`;
const CONTAINERD_ENCODING = "Accept-Encoding: zstd;q=1.0, gzip;q=0.8, deflate;q=0.5";

describe("dockerd, graphdriver store", () => {
  const agent =
    "docker/27.5.1 go/go1.22.10 git-commit/4c9b3b0 kernel/6.8.0 os/linux arch/amd64 UpstreamClient(Docker-Client/27.5.1 \\(linux\\))";

  test.each([
    ["[R152, R153, R154, R159] as mirror at the root", "/v2/", "library/multi", "library/multi"],
    ["[R151, R154] as mirror with a path", "/quay/v2/", "org/multi", "org/multi"],
    ["[R154, C39] by a name typed with the registry", "/v2/", "quay.io/org/multi", "quay.io/org/multi"],
  ])("%s: ping, token, HEAD tag, GET index, manifest, config, layers", async (_title, base, name, scope) => {
    const { ask } = await connect(agent);
    const startedAtMs = performance.now();
    const ping = await ask(`GET ${base}`);
    expect(performance.now() - startedAtMs).toBeLessThan(1_000);
    expect(ping.status).toBe(401);
    const token = tokenOf(await ask(`GET ${tokenPath(challengeOf(ping), `repository:${scope}:pull`)}`));
    expectManifest(await ask(`HEAD ${base}${name}/manifests/latest`, ...DOCKER_ACCEPT, token), multi, "HEAD");
    const gzip = "Accept-Encoding: gzip";
    for (const image of [multi, amd64]) {
      const answer = await ask(`GET ${base}${name}/manifests/${image.digest}`, ...DOCKER_ACCEPT, token, gzip);
      expectManifest(answer, image, "GET");
    }
    for (const digest of [config, ...layers]) {
      expectBlob(await ask(`GET ${base}${name}/blobs/${digest}`, token, gzip), digest);
    }
  });

  test("[R156] resumes with an open range, which must begin where it says and end at the end", async () => {
    const { ask } = await connect(agent);
    for (const ignoreRange of [false, true]) {
      farm.quay.faults.blob.ignoreRange = ignoreRange;
      expectRest(await ask(`GET /v2/quay/org/big/blobs/${bigLayer}`, "Range: bytes=4500000-"), 4_500_000);
    }
  });

  test("[R157, R158] can read the code of every refusal, and goes to the next endpoint", async () => {
    const { ask } = await connect(agent);
    const token = tokenOf(await ask("GET /token/ghcr"));
    expect(refusalOf(await ask("GET /v2/ghcr/org/multi/manifests/none", token))).toBe("404 MANIFEST_UNKNOWN");
    expect(refusalOf(await ask("GET /v2/ghcr/org/private/manifests/latest", token))).toBe("404 NAME_UNKNOWN");
    expect(refusalOf(await ask("GET /v2/ghcr/org/private/manifests/latest"))).toBe("401 UNAUTHORIZED");
    const body = "<html>toomanyrequests: You have reached your unauthenticated pull rate limit.</html>";
    for (const faults of [{}, { body, contentType: "text/html" }, { body: "HAP429", contentType: "text/plain" }]) {
      await using limited = await startLimited(faults, agent);
      expect(refusalOf(await limited.ask("GET /v2/ghcr/org/app/manifests/latest"))).toBe("429 TOOMANYREQUESTS");
    }
    farm.ghcr.faults.manifest = { status: 500, body: "<html>", contentType: "text/html" };
    expect(refusalOf(await ask("GET /v2/ghcr/org/multi/manifests/latest", token))).toBe("502 UNAVAILABLE");
  });

  test("[R161] names itself with parentheses and backslashes, which the log keeps as they are", async () => {
    const { ask } = await connect(agent);
    const answer = await ask("GET /v2/");
    const id = answer.header("x-request-id");
    expect((await farm.layover.logLine((line) => line["id"] === id))["agent"]).toBe(agent);
  });
});

describe("a registry whose credentials are configured here", () => {
  let own: Farm;
  beforeAll(async () => {
    const credentials = [{ username: "alice", password: "secret" }];
    own = await startFarm({ args: ["--share-private"], entries: { hub: { credentials } } });
  });
  afterAll(() => own.stop());

  test("[R124, R162, R41] dockerd sends its Docker Hub password to a mirror: not refused, not passed on, not logged", async () => {
    const basic = `Authorization: ${basicHeader("someone:their-hub-password")}`;
    const { ask, end } = await openClient(own.layover.url, "User-Agent: docker/27.5.1");
    const token = tokenOf(await ask("GET /token/hub?account=someone&scope=repository:library/app:pull", basic));
    for (const proof of [basic, token]) {
      const answer = await ask("GET /v2/library/app/manifests/latest", ...DOCKER_ACCEPT, proof);
      expect([answer.status, digestOf(answer.body)]).toEqual([200, own.images.hub.digest]);
    }
    end();
    const seen = [...own.hub.requests, ...own.hub.tokenRequests].map(({ headers, query, body }) =>
      [headers.get("authorization"), query, body].join(" "),
    );
    const everything = JSON.stringify([seen, own.layover.log]);
    for (const secret of ["their-hub-password", basicHeader("someone:their-hub-password").slice("Basic ".length)]) {
      expect(everything).not.toContain(secret);
    }
  });

  test("[R166] Docker 29 sends a mirror no credentials: private images come by those of the proxy", async () => {
    const { ask, end } = await openClient(own.layover.url, "User-Agent: docker/29.0.1", CONTAINERD_ACCEPT);
    const head = await ask("HEAD /v2/org/private/manifests/latest?ns=docker.io");
    expect([head.status, head.header("docker-content-digest")]).toEqual([200, own.images.secret.digest]);
    const layer = layerOf(own.images.secret);
    expectBlob(await ask(`GET /v2/org/private/blobs/${layer}?ns=docker.io`, CONTAINERD_ENCODING), layer);
    end();
  });
});

describe("Docker 29, containerd store", () => {
  test.each([
    ["[R163, R164, R167] as mirror at the root", "/v2/library/multi", "docker.io", "hub"],
    ["[R163] as mirror with a path", "/hub/v2/library/multi", "docker.io", "hub"],
    ["[R165] by certs.d for any registry", "/v2/org/multi", "quay.io", "quay"],
  ] as const)("%s: no ping, HEAD tag, GET by digest, blobs without HEAD, ns on each", async (_title, base, ns, key) => {
    const { ask } = await connect("docker/29.0.1", CONTAINERD_ENCODING);
    const head = await ask(`HEAD ${base}/manifests/latest?ns=${ns}`, CONTAINERD_ACCEPT);
    expectManifest(head, multi, "HEAD");
    expect(head.header("oci-namespace")).toBe(ns);
    for (const image of [multi, amd64]) {
      const accept = `Accept: ${image.mediaType}, */*`;
      expectManifest(await ask(`GET ${base}/manifests/${image.digest}?ns=${ns}`, accept), image, "GET");
    }
    for (const digest of [config, ...layers])
      expectBlob(await ask(`GET ${base}/blobs/${digest}?ns=${ns}`, "Accept: */*"), digest);
    expect(farm[key].requests.filter(({ query }) => query.includes("ns="))).toEqual([]);
  });

  test("[R164] reads the challenge from the resource itself", async () => {
    const { ask } = await connect("docker/29.0.1", CONTAINERD_ACCEPT);
    const refused = await ask("HEAD /v2/org/private/manifests/latest?ns=ghcr.io");
    expect(refused.status).toBe(401);
    const path = tokenPath(challengeOf(refused));
    const token = tokenOf(await ask(`GET ${path}`, `Authorization: ${basicHeader("alice:secret")}`));
    const head = await ask("HEAD /v2/org/private/manifests/latest?ns=ghcr.io", token);
    expect([head.status, head.header("docker-content-digest")]).toEqual([200, farm.images.secret.digest]);
  });
});

describe("containerd", () => {
  test.each([
    ["override_path, /v2/<host>", "/v2/quay.io/org/multi", "quay.io"],
    ["no override_path, /<host>", "/quay.io/v2/org/multi", "quay.io"],
    ["_default/hosts.toml", "/v2/org/multi", "quay.io"],
    ["a host with a port", "/v2/org/multi", "quay.test%3A5000"],
  ])("[R168, R170, R171, R173, C39] with %s: HEAD tag, GET digests, blobs", async (_title, base, ns) => {
    const { ask } = await connect("containerd/v2.3.1", CONTAINERD_ENCODING);
    expectManifest(await ask(`HEAD ${base}/manifests/latest?ns=${ns}`, CONTAINERD_ACCEPT), multi, "HEAD");
    for (const image of [multi, amd64]) {
      const accept = `Accept: ${image.mediaType}, */*`;
      expectManifest(await ask(`GET ${base}/manifests/${image.digest}?ns=${ns}`, accept), image, "GET");
    }
    for (const digest of [config, ...layers]) expectBlob(await ask(`GET ${base}/blobs/${digest}?ns=${ns}`), digest);
  });

  test("[R172] of a host with capability pull only asks by digest alone, the tag elsewhere", async () => {
    const { ask } = await connect("containerd/v2.3.1");
    const accept = `Accept: ${multi.mediaType}, */*`;
    expectManifest(await ask(`GET /v2/org/multi/manifests/${multi.digest}?ns=quay.io`, accept), multi, "GET");
    expect(farm.quay.requests.map(({ path }) => path)).toEqual([`/v2/org/multi/manifests/${multi.digest}`]);
  });

  test("[R169] HEAD that says 405, and digests that are blobs and not manifests", async () => {
    farm.quay.faults.manifest.headStatus = 405;
    const { ask } = await connect("containerd/v2.3.1", CONTAINERD_ACCEPT);
    expectManifest(await ask("HEAD /v2/org/multi/manifests/latest?ns=quay.io"), multi, "HEAD");
    expect(refusalOf(await ask(`GET /v2/org/multi/manifests/${config}?ns=quay.io`))).toBe("404 MANIFEST_UNKNOWN");
    expectBlob(await ask(`GET /v2/org/multi/blobs/${config}?ns=quay.io`), config);
  });

  test("[R177] resumes where its connection broke", async () => {
    const path = `/v2/org/big/blobs/${bigLayer}?ns=quay.io`;
    const { quay } = farm;
    quay.faults.blob = { stallAfterBytes: 3_000_000, cutAfterBytes: 3_000_000 };
    const broken = await openRaw(farm.layover.url);
    broken.send(`GET ${path} HTTP/1.1\r\nHost: ${farm.layover.host}\r\n\r\n`);
    const answer = broken.readAnswer();
    await quay.untilHeld(1);
    quay.faults.blob = { status: 404 }; // else the rest comes for the client, who sees nothing of the break
    quay.release();
    const { body, isComplete } = await answer;
    expect(isComplete).toBe(false);
    quay.faults.blob = {};
    const { ask } = await connect("containerd/v2.3.1");
    const rest = await ask(`GET ${path}`, `Range: bytes=${body.byteLength}-`);
    expectRest(rest, body.byteLength);
    expect(digestOf(Buffer.concat([body, rest.body]))).toBe(bigLayer);
  });

  test("[R178, R39] asks five times within milliseconds when told 429: each is told, none is multiplied", async () => {
    await using limited = await startLimited({}, "containerd/v2.3.1", CONTAINERD_ACCEPT);
    const startedAtMs = performance.now();
    for (let i = 0; i < 5; i++) {
      const answer = await limited.ask("GET /v2/org/app/manifests/latest?ns=quay.io");
      expect([refusalOf(answer), Number(answer.header("retry-after")) > 0]).toEqual(["429 TOOMANYREQUESTS", true]);
    }
    expect(performance.now() - startedAtMs).toBeLessThan(2_000);
    expect(limited.quay.count()).toBe(1);
  });

  test("[R179] sees bytes as they come, long before a slow layer is whole", async () => {
    farm.quay.faults.blob.stallAfterBytes = MIB;
    const connection = await openRaw(farm.layover.url);
    connection.send(`GET /v2/org/big/blobs/${bigLayer}?ns=quay.io HTTP/1.1\r\nHost: ${farm.layover.host}\r\n\r\n`);
    await connection.readHead();
    const early = await connection.read(MIB / 2);
    await farm.quay.untilHeld(1);
    farm.quay.release();
    const rest = await connection.read(bigBytes.byteLength - early.byteLength);
    expect(digestOf(Buffer.concat([early, rest]))).toBe(bigLayer);
    connection.end();
  });

  test("[R180] is never told text/plain, which it takes for schema 1", async () => {
    farm.quay.faults.manifest.contentType = "text/plain";
    const { ask } = await connect("containerd/v2.3.1", CONTAINERD_ACCEPT);
    expectManifest(await ask(`GET /v2/org/multi/manifests/${multi.digest}?ns=quay.io`), multi, "GET");
    expectManifest(await ask("HEAD /v2/org/multi/manifests/latest?ns=quay.io"), multi, "HEAD");
  });

  test("[R181, R249] tries a foreign layer's own URLs itself; here it is 404, and nobody else is asked", async () => {
    const elsewhere = `${farm.ghcr.url}/foreign`;
    const foreign = { mediaType: MEDIA_TYPES.dockerLayer, digest: digestOf(Buffer.from("foreign")), size: 7 };
    const text = JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.dockerManifest,
      config: { mediaType: MEDIA_TYPES.dockerConfig, digest: config, size: 2 },
      layers: [{ ...foreign, urls: [elsewhere] }],
    });
    const bytes = new TextEncoder().encode(text);
    const digest = digestOf(bytes);
    const manifests = new Map([[digest, { bytes, mediaType: MEDIA_TYPES.dockerManifest }]]);
    farm.quay.add("org/foreign", { blobs: new Map(), manifests, tags: new Map([["latest", digest]]) });
    const { ask } = await connect("containerd/v2.3.1", CONTAINERD_ACCEPT);
    const manifest = await ask("GET /v2/org/foreign/manifests/latest?ns=quay.io");
    expect(Buffer.from(manifest.body)).toEqual(Buffer.from(bytes));
    expect(refusalOf(await ask(`GET /v2/org/foreign/blobs/${foreign.digest}?ns=quay.io`))).toBe("404 BLOB_UNKNOWN");
    expect(farm.ghcr.count()).toBe(0);
  });

  test("[R182] does not try another host in the middle of a layer: wrong bytes never come whole", async () => {
    farm.quay.faults.blob.corrupt = true;
    const connection = await openRaw(farm.layover.url);
    connection.send(`GET /v2/org/big/blobs/${bigLayer}?ns=quay.io HTTP/1.1\r\nHost: ${farm.layover.host}\r\n\r\n`);
    expect((await connection.readAnswer()).isComplete).toBe(false);
  });
});

test("[R176] containerd ≥ 2.3 parallel ranges: open-ended, each cut off by the client after its chunk", async () => {
  const path = `/v2/org/big/blobs/${bigLayer}?ns=quay.io`;
  const connections = await Promise.all(Array.from({ length: 8 }, () => openRaw(farm.layover.url)));
  const ids = await Promise.all(
    connections.map(async (connection, index) => {
      const first = index * MIB;
      connection.send(`GET ${path} HTTP/1.1\r\nHost: ${farm.layover.host}\r\nRange: bytes=${first}-\r\n\r\n`);
      const head = await connection.readHead();
      expect([head.status, head.header("content-range"), head.header("content-length")]).toEqual([
        206,
        `bytes ${first}-${bigBytes.byteLength - 1}/${bigBytes.byteLength}`,
        String(bigBytes.byteLength - first),
      ]);
      const chunk = await connection.read(MIB);
      expect(digestOf(chunk)).toBe(digestOf(bigBytes.subarray(first, first + MIB)));
      connection.reset();
      return head.header("x-request-id");
    }),
  );
  for (const id of ids) await farm.layover.logLine((line) => line["id"] === id);
  expect(farm.quay.requests.map(({ headers }) => headers.get("range")).sort()).toEqual(
    Array.from({ length: 8 }, (_, index) => `bytes=${index * MIB}-`).sort(),
  );
});

describe("podman, skopeo, CRI-O", () => {
  const lines = [
    "User-Agent: containers/5.36.1 (github.com/containers/image)",
    "Docker-Distribution-Api-Version: registry/2.0",
  ];
  const accept = CONTAINERD_ACCEPT;

  test("[R184, R185, R186, R120, C39] ping, token for the prefixed name, GET manifests, blobs", async () => {
    const { ask } = await connect("podman", ...lines.slice(1));
    const ping = await ask("GET /v2/");
    expect([ping.status, ping.header("x-registry-supports-signatures")]).toEqual([401, undefined]);
    const scope = "repository:docker.io/library/multi:pull";
    const token = tokenOf(await ask(`GET ${tokenPath(challengeOf(ping), scope)}`));
    const base = "/v2/docker.io/library/multi";
    expectManifest(await ask(`GET ${base}/manifests/latest`, accept, token), multi, "GET");
    expectManifest(await ask(`GET ${base}/manifests/${amd64.digest}`, accept, token), amd64, "GET");
    for (const digest of [config, ...layers]) expectBlob(await ask(`GET ${base}/blobs/${digest}`, token), digest);
    expect(farm.hub.tokenRequests.map(({ query }) => new URLSearchParams(query).get("scope"))).toEqual([
      "repository:library/multi:pull",
    ]);
  });

  test("[R186] GET and HEAD by tag say the same", async () => {
    const { ask } = await connect("skopeo/1.20");
    expectManifest(await ask("GET /v2/quay.io/org/multi/manifests/latest", accept), multi, "GET");
    expectManifest(await ask("HEAD /v2/quay.io/org/multi/manifests/latest", accept), multi, "HEAD");
  });

  test("[R187] resumes with 206 and one exact Content-Range, also where the registry ignores Range", async () => {
    const { ask } = await connect("podman", ...lines.slice(1));
    for (const ignoreRange of [false, true]) {
      farm.quay.faults.blob.ignoreRange = ignoreRange;
      expectRest(await ask(`GET /v2/quay.io/org/big/blobs/${bigLayer}`, "Range: bytes=1048577-"), 1_048_577);
    }
  });

  test("[R188, R270] zstd:chunked asks several ranges at once: the whole, with 200", async () => {
    const { ask } = await connect("podman", ...lines.slice(1));
    const answer = await ask(`GET /v2/quay.io/org/big/blobs/${bigLayer}`, "Range: bytes=0-99,5000-5999");
    expectBlob(answer, bigLayer);
    expect(farm.quay.requests.at(-1)?.headers.has("range")).toBe(false);
  });

  test.each([
    ["17", () => "17", /^17$/],
    // What is left until then, in whole seconds, which is what podman reads.
    ["a date", () => new Date(Date.now() + 40_000).toUTCString(), /^[1-4]?\d$/],
  ])("[R189, R39] waits as long as 429 says: %s", async (_title, retryAfter, told) => {
    await using limited = await startLimited({ retryAfter: retryAfter() }, "podman", ...lines.slice(1));
    const answer = await limited.ask("GET /v2/quay.io/org/app/manifests/latest", accept);
    expect([answer.status, answer.header("retry-after")]).toEqual([429, expect.stringMatching(told)]);
  });
});

describe("BuildKit", () => {
  test("[R192, R193, C39] mirrors with a path: after /v2, with ns, four connections at once", async () => {
    const base = "/v2/quay.io/org/multi";
    const { ask } = await connect("buildkit/v0.26", CONTAINERD_ENCODING);
    expectManifest(await ask(`HEAD ${base}/manifests/latest?ns=quay.io`, CONTAINERD_ACCEPT), multi, "HEAD");
    for (const image of [multi, amd64]) {
      const accept = `Accept: ${image.mediaType}, */*`;
      expectManifest(await ask(`GET ${base}/manifests/${image.digest}?ns=quay.io`, accept), image, "GET");
    }
    const wanted = [config, ...layers];
    const parallel = await Promise.all(wanted.map(() => openClient(farm.layover.url, "User-Agent: buildkit/v0.26")));
    await Promise.all(
      parallel.map(async (each, index) => {
        const digest = wanted[index] ?? "";
        expectBlob(await each.ask(`GET ${base}/blobs/${digest}?ns=quay.io`), digest);
        each.end();
      }),
    );
  });

  test("[R194, R195] a private name: challenge, anonymous token by GET, then a clean 404 and no insufficient_scope", async () => {
    const { ask } = await connect("buildkit/v0.26", CONTAINERD_ACCEPT);
    const refused = await ask("HEAD /v2/org/private/manifests/latest?ns=ghcr.io");
    const challenge = challengeOf(refused);
    expect([refused.status, challenge["error"]]).toEqual([401, undefined]);
    const token = tokenOf(await ask(`GET ${tokenPath(challenge)}`));
    const absent = await ask("GET /v2/org/private/manifests/latest?ns=ghcr.io", token);
    expect([refusalOf(absent), absent.all("www-authenticate")]).toEqual(["404 NAME_UNKNOWN", []]);
  });

  test.each([
    ["a registry with tokens", "ghcr.io"],
    ["a registry with Basic", "basic.test"],
  ])("[R98, R117] a login for %s: by GET with Basic, and by a form", async (_title, ns) => {
    const { ask } = await connect("buildkit/v0.26", CONTAINERD_ACCEPT);
    const manifest = `HEAD /v2/org/private/manifests/latest?ns=${ns}`;
    const challenge = challengeOf(await ask(manifest));
    const path = tokenPath(challenge);
    const token = tokenOf(
      await ask(`GET ${path}&client_id=buildkit-client`, `Authorization: ${basicHeader("alice:secret")}`),
    );
    const head = await ask(manifest, token);
    expect([head.status, head.header("docker-content-digest")]).toEqual([200, farm.images.secret.digest]);
    const wrong = await ask(`GET ${path}&client_id=buildkit-client`, `Authorization: ${basicHeader("alice:wrong")}`);
    expect(wrong.status).toBe(401);
    const { service = "", scope = "" } = challenge;
    const login = { grant_type: "password", username: "alice", password: "secret" };
    const posted = await fetch(`${farm.layover.url}${path.split("?")[0]}`, {
      method: "POST",
      body: new URLSearchParams({ ...login, client_id: "buildkit-client", service, scope }),
    });
    const { access_token: bearer } = (await posted.json()) as { access_token: string };
    expect((await ask(manifest, `Authorization: Bearer ${bearer}`)).status).toBe(200);
  });
});

describe("kaniko, k3s", () => {
  test("[R196] kaniko --registry-mirror host/docker.io", async () => {
    const { ask } = await connect("kaniko/v1.24 go-containerregistry/v0.20");
    const token = tokenOf(
      await ask(`GET ${tokenPath(challengeOf(await ask("GET /v2/")), "repository:docker.io/library/multi:pull")}`),
    );
    expectManifest(
      await ask("GET /v2/docker.io/library/multi/manifests/latest", CONTAINERD_ACCEPT, token),
      multi,
      "GET",
    );
    expectBlob(await ask(`GET /v2/docker.io/library/multi/blobs/${config}`, token), config);
  });

  test("[R197] k3s: wharfie's path in place of /v2 with ns, and containerd's form of the same endpoint", async () => {
    const { ask } = await connect("k3s/v1.34");
    for (const base of ["/v2/docker.io/library/multi", "/v2/library/multi"]) {
      const ns = "ns=index.docker.io";
      expectManifest(await ask(`HEAD ${base}/manifests/latest?${ns}`, CONTAINERD_ACCEPT), multi, "HEAD");
      expectBlob(await ask(`GET ${base}/blobs/${config}?${ns}`), config);
    }
  });
});

describe("go-containerregistry: crane, ko", () => {
  test("[R198, R199, C39] ping, token, HEAD with all three headers, GET, blobs of the descriptor's size", async () => {
    const { ask } = await connect("crane/0.20.6 go-containerregistry/v0.20.6");
    const ping = await ask("GET /v2/");
    expect(ping.status).toBe(401);
    const token = tokenOf(await ask(`GET ${tokenPath(challengeOf(ping), "repository:quay/org/multi:pull")}`));
    const base = "/v2/quay/org/multi";
    for (const method of ["HEAD", "GET"] as const) {
      expectManifest(await ask(`${method} ${base}/manifests/latest`, CONTAINERD_ACCEPT, token), multi, method);
    }
    for (const [digest, blob] of amd64.blobs) {
      const answer = await ask(`GET ${base}/blobs/${digest}`, token, "Accept-Encoding: gzip");
      expectBlob(answer, digest);
      expect(answer.header("content-length")).toBe(String(blob.byteLength));
    }
  });
});

describe("cosign", () => {
  const referrers = `/v2/quay.io/org/multi/referrers/${amd64.digest}`;
  const tag = amd64.digest.replace(":", "-");

  test("[R200, R60, R62, C39] referrers, else the fallback tag, else the .sig tag", async () => {
    const signature = makeArtifact({ subject: amd64, artifactType: "application/vnd.dev.sigstore.bundle.v0.3+json" });
    farm.quay.add("org/multi", signature);
    farm.quay.add("org/multi", makeIndex([signature], { tags: [tag] }));
    const { ask } = await connect("cosign/v3.0.2");
    const listed = await ask(`GET ${referrers}`);
    expect([listed.status, listed.header("content-type")]).toEqual([200, MEDIA_TYPES.ociIndex]);
    expect(jsonOf<{ manifests: { digest: string }[] }>(listed).manifests[0]?.digest).toBe(signature.digest);
    Object.assign(farm.quay.faults.referrers, { status: 404, code: "MANIFEST_UNKNOWN" });
    expect(refusalOf(await ask(`GET ${referrers}`))).toBe("404 MANIFEST_UNKNOWN");
    const fallback = await ask(`GET /v2/quay.io/org/multi/manifests/${tag}`, CONTAINERD_ACCEPT);
    expect([fallback.status, fallback.header("content-type")]).toEqual([200, MEDIA_TYPES.ociIndex]);
    const legacy = await ask(`GET /v2/quay.io/org/multi/manifests/${tag}.sig`, CONTAINERD_ACCEPT);
    expect(refusalOf(legacy)).toBe("404 MANIFEST_UNKNOWN");
  });

  test.each([[{ status: 429 }], [{ status: 500 }], [{ hangUp: "reset" }]] as const)(
    "[R61] is not told «unsigned» when the registry is in trouble: %j",
    async (faults) => {
      Object.assign(farm.quay.faults.referrers, faults);
      const { ask } = await connect("cosign/v3.0.2");
      expect((await ask(`GET ${referrers}`)).status).toBe("status" in faults && faults.status === 429 ? 429 : 502);
    },
  );
});

describe("ORAS, Helm", () => {
  test("[R201, R202, C39] sizes, types and digests that equal the descriptor's, and ranges to seek", async () => {
    const { ask } = await connect("oras/1.3.0");
    for (const method of ["HEAD", "GET"] as const) {
      const answer = await ask(`${method} /v2/quay.io/org/multi/manifests/latest`, CONTAINERD_ACCEPT);
      expectManifest(answer, multi, method);
    }
    const zero = await ask(`GET /v2/quay.io/org/multi/referrers/sha256:${"0".repeat(64)}`);
    expect([zero.status, zero.header("content-type")]).toEqual([200, MEDIA_TYPES.ociIndex]);
    const head = await ask(`HEAD /v2/quay.io/org/multi/blobs/${config}`);
    const size = String(amd64.blobs.get(config)?.byteLength);
    expect([head.header("accept-ranges"), head.header("content-length")]).toEqual(["bytes", size]);
    expectBlob(await ask(`GET /v2/quay.io/org/multi/blobs/${config}`), config);
  });

  test("[R203, C39] Helm lists tags over pages of the same host, and pulls a version whose + became _", async () => {
    const { ask } = await connect("Helm/3.19.0");
    const tags: string[] = [];
    let next: string | undefined = "/v2/quay.io/org/multi/tags/list?n=1";
    while (next !== undefined) {
      const page = await ask(`GET ${next}`);
      tags.push(...jsonOf<{ tags: string[] }>(page).tags);
      next = /^<(\/[^>]*)>; rel="next"$/.exec(page.header("link") ?? "")?.[1];
    }
    expect(tags).toContain("1.0.0_build.5");
    const chart = await ask("GET /v2/quay.io/org/multi/manifests/1.0.0_build.5", CONTAINERD_ACCEPT);
    expectManifest(chart, multi, "GET");
  });
});

describe("lazy pullers", () => {
  const path = `/v2/org/big/blobs/${bigLayer}?ns=quay.io`;

  test.each([
    ["from the registry itself", undefined],
    ["behind a redirect, which it would not follow twice", { hops: 1 }],
  ])("[R204] stargz probe: two bytes, digits for the total, %s", async (_title, redirect) => {
    if (redirect !== undefined) farm.quay.faults.blob.redirect = redirect;
    const { ask } = await connect("stargz-snapshotter/0.17");
    const probe = await ask(`GET ${path}`, "Range: bytes=0-1");
    expect([probe.status, probe.header("content-range"), probe.body.byteLength]).toEqual([
      206,
      `bytes 0-1/${bigBytes.byteLength}`,
      2,
    ]);
    const several = await ask(`GET ${path}`, "Range: bytes=0-9,100-199", "Accept-Encoding: identity");
    expectBlob(several, bigLayer);
  });

  test("[R205] SOCI: many small ranges cost the registry those bytes and no more", async () => {
    const { ask } = await connect("soci-snapshotter/0.12");
    for (let first = 0; first < bigBytes.byteLength; first += 300_000) {
      const answer = await ask(`GET ${path}`, `Range: bytes=${first}-${first + 99}`);
      expect([answer.status, Buffer.from(answer.body)]).toEqual([
        206,
        Buffer.from(bigBytes.subarray(first, first + 100)),
      ]);
    }
    expect(farm.quay.bytesSent).toBe(100 * Math.ceil(bigBytes.byteLength / 300_000));
  });
});
