/** The API as a table (distribution specification, "Endpoints"): what a pull proxy answers, and in which form it says no. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { digestOf, makeImage } from "../support/images.ts";
import { rawRequest } from "../support/raw-http.ts";

let farm: Farm;
let digest = "";
let layer = "";
beforeAll(async () => {
  farm = await startFarm();
  digest = farm.images.quay.digest;
  layer = layerOf(farm.images.quay);
});
afterAll(() => farm.stop());
beforeEach(() => farm.reset());

/** `DIGEST` and `LAYER` stand for those of the registry's image. */
async function answerTo(line: string) {
  const [method = "", path = ""] = line.replace("DIGEST", digest).replace("LAYER", layer).split(" ");
  const body = method === "GET" || method === "HEAD" || method === "DELETE" ? {} : { body: "x" };
  const answer = await farm.ask(path, { method, ...body });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

describe("the endpoints", () => {
  test.each([
    ["end-1", "GET /v2/", 401],
    ["end-2", "GET /v2/quay/org/app/blobs/LAYER", 200],
    ["end-2", "HEAD /v2/quay/org/app/blobs/LAYER", 200],
    ["end-2", `GET /v2/quay/org/app/blobs/sha256:${"0".repeat(64)}`, 404],
    ["end-3", "GET /v2/quay/org/app/manifests/latest", 200],
    ["end-3", "HEAD /v2/quay/org/app/manifests/latest", 200],
    ["end-3", "GET /v2/quay/org/app/manifests/DIGEST", 200],
    ["end-3", "HEAD /v2/quay/org/app/manifests/DIGEST", 200],
    ["end-3", "HEAD /v2/quay/org/app/manifests/none", 404],
    ["end-8a", "GET /v2/quay/org/app/tags/list", 200],
    ["end-8b", "GET /v2/quay/org/app/tags/list?n=1&last=a", 200],
    ["end-12", "GET /v2/quay/org/app/referrers/DIGEST", 200],
  ])("[R1, R5] %s: %s is %i", async (_title, line, status) => {
    const answer = await answerTo(line);
    expect(answer.status).toBe(status);
    expect(answer.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
    if (status === 200 && /blobs|manifests/.test(line)) {
      expect(answer.headers.get("docker-content-digest")).toBe(line.includes("LAYER") ? layer : digest);
    }
  });

  test.each([
    ["end-4a", "POST /v2/quay/org/app/blobs/uploads/"],
    ["end-4b", "POST /v2/quay/org/app/blobs/uploads/?digest=LAYER"],
    ["end-5", "PATCH /v2/quay/org/app/blobs/uploads/1"],
    ["end-6", "PUT /v2/quay/org/app/blobs/uploads/1?digest=LAYER"],
    ["end-7a", "PUT /v2/quay/org/app/manifests/latest"],
    ["end-9", "DELETE /v2/quay/org/app/manifests/DIGEST"],
    ["end-10", "DELETE /v2/quay/org/app/blobs/LAYER"],
    ["end-11", "POST /v2/quay/org/app/blobs/uploads/?mount=LAYER&from=org/other"],
    ["end-13", "GET /v2/quay/org/app/blobs/uploads/1"],
    ["end-14", "DELETE /v2/quay/org/app/blobs/uploads/1"],
  ])("[R2, R65, C17] %s belongs to no category that is claimed: %s is 405", async (_title, line) => {
    const answer = await answerTo(line);
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect(JSON.parse(answer.text).errors[0].code).toBe("UNSUPPORTED");
    expect(farm.quay.count()).toBe(0);
  });
});

describe("a refusal", () => {
  const refused: [line: string, fault: () => void, status: number][] = [
    ["GET /v2/Bad/manifests/x", () => undefined, 400],
    ["GET /v2/ghcr/org/private/manifests/latest", () => undefined, 401],
    ["GET /v2/quay/org/app/manifests/none", () => undefined, 404],
    ["PUT /v2/quay/org/app/manifests/x", () => undefined, 405],
    ["GET /v2/quay/org/app/tags/list", () => (farm.quay.faults.tags.status = 429), 429],
    ["GET /v2/quay/org/app/manifests/latest", () => (farm.quay.faults.manifest.html = true), 502],
    ["GET /v2/quay/org/app/manifests/latest", () => (farm.quay.faults.manifest.status = 503), 503],
    ["GET /nothing", () => undefined, 404],
    ["GET /token/nope", () => undefined, 404],
  ];
  test.each(refused)(
    "[R32, R33, R227] %s is JSON that clients read and caches leave alone",
    async (line, fault, status) => {
      fault();
      const answer = await answerTo(line);
      expect([answer.status, answer.headers.get("content-type")]).toEqual([status, "application/json"]);
      expect(answer.headers.get("cache-control")).toBe("no-store, no-transform");
      const { errors } = JSON.parse(answer.text) as { errors: { code: string; message: string }[] };
      expect(errors).toHaveLength(1);
      expect(errors[0]?.code).toMatch(/^[A-Z_]+$/);
      expect(errors[0]?.message).not.toBe("");
    },
  );
});

test.each([
  "/v2/quay/org/app/manifests/latest",
  "/v2/quay/org/app/blobs/LAYER",
  "/v2/quay/org/app/tags/list",
  "/v2/quay/org/app/referrers/DIGEST",
  "/v2/quay/org/app/manifests/none",
])("[R228, R160, R227] %s is never compressed, whatever the client can read", async (path) => {
  const target = path.replace("DIGEST", digest).replace("LAYER", layer);
  const answer = await rawRequest(farm.layover.url, `GET ${target}`, ["Accept-Encoding: zstd, br, gzip, x-gzip"]);
  expect([answer.all("content-encoding"), answer.framing]).toEqual([[], "length"]);
  expect(answer.header("cache-control")).toContain("no-transform");
});

test("[T11, C19] one repository name on three registries is three images, never mixed", async () => {
  for (const key of ["hub", "quay", "ghcr", "hub"] as const) {
    const answer = await farm.ask(`/v2/${key}/org/app/manifests/latest`);
    expect(answer.headers.get("docker-content-digest")).toBe(farm.images[key].digest);
    await answer.text();
    const other = key === "quay" ? "ghcr" : "quay";
    expect((await answerTo(`GET /v2/${key}/org/app/manifests/${farm.images[other].digest}`)).status).toBe(404);
  }
});

test("[C29] namespaced, private, large over a slow link, and a part of it: all of them pull", async () => {
  const image = makeImage({ seed: "slow", layers: [1_500_000] });
  const path = `/v2/ghcr.io/org/sub/team/app/blobs/${layerOf(image)}`;
  farm.ghcr.add("org/sub/team/app", image);
  farm.ghcr.access.privateRepositories.push("org/sub/team/app");
  farm.ghcr.faults.blob.bytesPerSecond = 3_000_000;
  const headers = { authorization: `Bearer ${await farm.token("/token/ghcr", "alice:secret")}` };
  const manifest = await farm.ask("/v2/ghcr.io/org/sub/team/app/manifests/latest", { headers });
  expect([manifest.status, manifest.headers.get("docker-content-digest")]).toEqual([200, image.digest]);
  await manifest.text();
  const whole = await farm.ask(path, { headers });
  expect(digestOf(await whole.bytes())).toBe(layerOf(image));
  const part = await farm.ask(path, { headers: { ...headers, range: "bytes=1400000-" } });
  expect([part.status, (await part.bytes()).byteLength]).toEqual([206, 100_000]);
  expect((await answerTo(`GET ${path}`)).status).toBe(401);
});

test("[T25] a tag that moves is seen at once, and the old digest still pulls", async () => {
  const { hub, ghcr } = farm.images;
  farm.quay.add("org/moving", hub);
  expect((await answerTo("HEAD /v2/quay/org/moving/manifests/latest")).headers.get("docker-content-digest")).toBe(
    hub.digest,
  );
  farm.quay.add("org/moving", ghcr);
  expect((await answerTo("GET /v2/quay/org/moving/manifests/latest")).headers.get("docker-content-digest")).toBe(
    ghcr.digest,
  );
  expect((await answerTo(`GET /v2/quay/org/moving/manifests/${hub.digest}`)).status).toBe(200);
});
