/** Writes pass through to the one registry they are for, however it is named (protocol R65–R82). */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";
import { digestOf, makeArtifact, makeImage, makeIndex, randomBytes } from "../support/images.ts";
import {
  beginUpload,
  finishUpload,
  locationOf,
  pushImage,
  pushInPieces,
  pushManifest,
  type PushPlace,
  pushRequest,
} from "../support/pushing.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm({
    args: ["--domain-suffix", "example.test", "--allow-push"],
    entries: { quay: { deny: ["org/closed*"] }, basic: { allow: ["org/**"] } },
  });
  farm.hub.auth = "none"; // who may write is asked elsewhere
});
afterEach(() => farm.reset());
afterAll(() => farm.stop());

const at = (path: string, more: Partial<PushPlace> = {}): PushPlace => ({ server: farm.layover.url, path, ...more });
const quay = (name: string): PushPlace => at(`/v2/quay/org/${name}`);
let serial = 0;
const blobOf = (bytes = 3000): [string, Uint8Array] => {
  const content = randomBytes(`push ${serial++}`, bytes);
  return [digestOf(content), content];
};

describe("every way of naming a registry takes pushes, and what it says leads back the same way", () => {
  const MODES: [string, () => PushPlace, "quay" | "hub", string][] = [
    ["host", () => at("/v2/org/m1", { host: "quay.example.test:5000" }), "quay", "org/m1"],
    ["path after, key", () => at("/v2/quay/org/m2"), "quay", "org/m2"],
    ["path after, host", () => at("/v2/quay.io/org/m3"), "quay", "org/m3"],
    ["path before, key", () => at("/quay/v2/org/m4"), "quay", "org/m4"],
    ["path before, host", () => at("/quay.io/v2/org/m5"), "quay", "org/m5"],
    ["ns", () => at("/v2/org/m6", { query: "ns=quay.io" }), "quay", "org/m6"],
    ["root", () => at("/v2/org/m7"), "hub", "org/m7"],
    ["root, Docker Hub without library", () => at("/v2/m8"), "hub", "library/m8"],
  ];
  for (const [title, place, key, repository] of MODES) {
    for (const location of ["relative", "absolute", "stateful", "elsewhere"] as const) {
      test(`[R67, R68, R69, R74, C10] ${title}, where the registry's Location is ${location}`, async () => {
        const registry = farm[key];
        registry.faults.push.location = location;
        const image = makeIndex(
          [
            makeImage({ seed: `${title}${location}a` }),
            makeImage({ seed: `${title}${location}b`, layers: [9000, 10] }),
          ],
          { tags: ["multi"] },
        );
        await pushImage(place(), image);
        const held = registry.content.repositories.get(repository);
        expect(held?.tags.get("multi")).toBe(image.digest);
        for (const [digest, bytes] of image.blobs)
          expect(Buffer.from(bytes).equals(held?.blobs.get(digest) ?? new Uint8Array())).toBe(true);
        const put = await pushManifest(place(), image, image.digest, "again");
        const made = put.headers.get("location") ?? "";
        expect([put.status, put.headers.get("docker-content-digest")]).toEqual([201, image.digest]);
        const pulled = await pushRequest(place(), made, { method: "GET" });
        expect([pulled.status, digestOf(await pulled.bytes())]).toEqual([200, image.digest]);
      });
    }
  }

  test("[R74] the Location of a finished blob can be pulled, and names no other host", async () => {
    farm.quay.faults.push.location = "elsewhere";
    const [digest, bytes] = blobOf();
    const done = await finishUpload(quay("done"), await beginUpload(quay("done")), {
      digest,
      body: Buffer.from(bytes),
    });
    expect(done.headers.get("location")).toBe(`${farm.layover.url}/v2/quay/org/done/blobs/${digest}`);
    const pulled = await pushRequest(quay("done"), done.headers.get("location") ?? "", { method: "GET" });
    expect(digestOf(await pulled.bytes())).toBe(digest);
  });
});

describe("uploads", () => {
  test("[R70, R71, R73] in pieces: the registry's smallest size and each range pass, without a unit", async () => {
    farm.quay.faults.push.chunkMinLength = 1000;
    const place = quay("pieces");
    const begun = await pushRequest(place, "/blobs/uploads/", { method: "POST" });
    expect([begun.status, begun.headers.get("oci-chunk-min-length"), begun.headers.get("content-length")]).toEqual([
      202,
      "1000",
      "0",
    ]);
    const blob = blobOf(10_500);
    expect((await pushInPieces(place, blob, 1000)).status).toBe(201);
    const ranges = farm.quay.requests
      .filter(({ method }) => method === "PATCH")
      .map(({ headers }) => headers.get("content-range"));
    expect(ranges.slice(-2)).toEqual(["9000-9999", "10000-10499"]);
    expect(farm.quay.requests.find(({ method }) => method === "POST")?.headers.get("content-length")).toBe("0");
  });

  test("[R71, R72, R241] a piece out of order is 416; GET tells where to go on, and the upload goes on", async () => {
    const place = quay("order");
    const [digest, bytes] = blobOf(2000);
    const patch = (location: string, range: string, body: Uint8Array) =>
      pushRequest(place, location, { method: "PATCH", headers: { "content-range": range }, body: Buffer.from(body) });
    const first = await patch(await beginUpload(place), "0-999", bytes.subarray(0, 1000));
    const wrong = await patch(locationOf(place, first), "1500-1999", bytes.subarray(1500));
    expect([wrong.status, wrong.headers.get("range")]).toEqual([416, "0-999"]);
    expect(await wrong.json()).toHaveProperty("errors.0.code", "BLOB_UPLOAD_INVALID");
    const state = await pushRequest(place, locationOf(place, wrong), { method: "GET" });
    expect([state.status, state.headers.get("range")]).toEqual([204, "0-999"]);
    const last = await patch(locationOf(place, state), "1000-1999", bytes.subarray(1000));
    const late = await pushRequest(place, `${locationOf(place, last)}?digest=${digest}`, {
      method: "PUT",
      headers: { "content-range": "0-10" },
      body: "x".repeat(11),
    });
    expect(late.status).toBe(416);
    expect((await finishUpload(place, locationOf(place, last), { digest })).status).toBe(201);
  });

  test("given up with DELETE: 204, and it is no more", async () => {
    const place = quay("cancel");
    const before = farm.quay.openUploads();
    const location = await beginUpload(place);
    expect((await pushRequest(place, location, { method: "DELETE" })).status).toBe(204);
    expect(farm.quay.openUploads()).toBe(before);
    const state = await pushRequest(place, location, { method: "GET" });
    expect([state.status, await codeOf(state)]).toEqual([404, "BLOB_UPLOAD_UNKNOWN"]);
  });

  test("[R76, R82] at once with POST: one request, with its length; parameters pass", async () => {
    const [digest, bytes] = blobOf(40_000);
    const place = quay("mono");
    const done = await pushRequest(place, `/blobs/uploads/?digest=${digest}&digest-algorithm=sha256`, {
      method: "POST",
      body: Buffer.from(bytes),
    });
    expect([done.status, done.headers.get("location")]).toEqual([
      201,
      `${farm.layover.url}${place.path}/blobs/${digest}`,
    ]);
    const [seen] = farm.quay.requests.filter(({ method }) => method === "POST");
    expect([seen?.headers.get("content-length"), seen?.headers.get("transfer-encoding")]).toEqual(["40000", null]);
    expect(new URLSearchParams(seen?.query).get("digest-algorithm")).toBe("sha256");
  });

  test("a wrong digest is told in the registry's own words", async () => {
    const place = quay("wrong");
    const { digest } = makeImage();
    const answer = await finishUpload(place, await beginUpload(place), { digest, body: "other" });
    expect([answer.status, await answer.json()]).toEqual([
      400,
      { errors: [{ code: "DIGEST_INVALID", message: "provided digest did not match uploaded content" }] },
    ]);
  });

  test("a session is good where it was made, and nothing else is a session", async () => {
    const location = await beginUpload(quay("mine"));
    const session = location.split("/").at(-1) ?? "";
    const forged = `${session.slice(0, -2)}${session.endsWith("AA") ? "BB" : "AA"}`;
    const token = await farm.token("/token/hub");
    farm.quay.requests.length = 0;
    for (const path of [
      `/v2/quay/org/other/blobs/uploads/${session}`,
      `/v2/ghcr/org/mine/blobs/uploads/${session}`,
      `/v2/org/mine/blobs/uploads/${session}`,
      `/v2/quay/org/mine/blobs/uploads/${forged}`,
      `/v2/quay/org/mine/blobs/uploads/${token}`,
      "/v2/quay/org/mine/blobs/uploads/6b3c9a93-af5d-473f-a4cc-9710022185cd",
      `/v2/quay/org/mine/blobs/uploads/${Buffer.from('{"h":"http://169.254.169.254/"}').toString("base64url")}`,
    ]) {
      for (const method of ["PATCH", "PUT", "GET", "DELETE"]) {
        const answer = await farm.ask(path, { method, ...(method === "GET" ? {} : { body: "x" }) });
        expect([method, path, answer.status, await codeOf(answer)]).toEqual([method, path, 404, "BLOB_UPLOAD_UNKNOWN"]);
      }
    }
    expect([farm.quay.requests.length, farm.hub.count(), farm.ghcr.count()]).toEqual([0, 0, 0]);
    const uri = "/v2/quay/org/mine/blobs/uploads/…";
    await farm.layover.logLine((line) => line["uri"] === uri && line["method"] === "DELETE");
    expect(farm.layover.log.some((line) => JSON.stringify(line).includes(session.slice(0, 20)))).toBe(false);
  });
});

describe("mounts", () => {
  const mount = (place: PushPlace, digest: string, from: string) =>
    pushRequest(place, `/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(from)}`, { method: "POST" });
  const askedOf = () => farm.quay.requests.filter(({ method }) => method === "POST").map(({ query }) => query);

  test("[R75] from the same registry, by any of its names: 201, and a Location that can be pulled", async () => {
    const layer = layerOf(farm.images.quay);
    for (const from of ["quay/org/app", "quay.io/org/app", "org/app"]) {
      const place = quay(`mounted-${from.length}`);
      const answer = await mount(place, layer, from);
      expect([answer.status, answer.headers.get("location")]).toEqual([
        201,
        `${farm.layover.url}${place.path}/blobs/${layer}`,
      ]);
      expect(new URLSearchParams(askedOf().at(-1)).get("from")).toBe("org/app");
    }
  });

  test("[R75] from another registry, or from what is not served: 202 without a mount", async () => {
    const layer = layerOf(farm.images.hub);
    for (const from of ["docker.io/library/app", "ghcr.io/org/app", "quay.io/org/closed-base", "../x", ""]) {
      const answer = await mount(quay("unmounted"), layer, from);
      expect([from, answer.status]).toEqual([from, 202]);
      locationOf(quay("unmounted"), answer);
    }
    for (const query of askedOf()) expect(query).toBe("");
  });
});

describe("manifests", () => {
  test("[R77] further tags: each is asked for, and told in a line of its own", async () => {
    const image = makeImage({ seed: "tags" });
    const place = quay("tags");
    await pushImage(place, image);
    const answer = await pushManifest(place, image, image.digest, `${image.digest}?tag=a&tag=b.1`);
    expect(answer.status).toBe(201);
    expect(answer.headers.get("oci-tag")).toBe("a, b.1");
    expect([...(farm.quay.content.repositories.get("org/tags")?.tags.keys() ?? [])]).toEqual(["latest", "a", "b.1"]);
  });

  test("[R64] a subject is told, and its referrers are there at once", async () => {
    const place = quay("subject");
    const image = makeImage({ seed: "subject" });
    await pushImage(place, image);
    const before = await pushRequest(place, `/referrers/${image.digest}`, { method: "GET" });
    expect(await before.json()).toHaveProperty("manifests", []);
    const artifact = makeArtifact({ subject: image });
    for (const [digest, bytes] of artifact.blobs)
      await finishUpload(place, await beginUpload(place), { digest, body: Buffer.from(bytes) });
    const answer = await pushManifest(place, artifact, artifact.digest);
    expect([answer.status, answer.headers.get("oci-subject")]).toEqual([201, image.digest]);
    const after = await pushRequest(place, `/referrers/${image.digest}`, { method: "GET" });
    expect(await after.json()).toHaveProperty("manifests.0.digest", artifact.digest);
  });

  test("[R45] four MiB pass; what is larger than any registry takes is 413 and not sent", async () => {
    const put = (bytes: number) =>
      pushRequest(quay("large"), "/manifests/large", { method: "PUT", body: `{"a":"${"x".repeat(bytes - 8)}"}` });
    expect((await put(4 * 1024 * 1024)).status).toBe(201);
    const refused = await put(9 * 1024 * 1024);
    expect([refused.status, await codeOf(refused)]).toEqual([413, "SIZE_INVALID"]);
    expect(farm.quay.count({ method: "PUT" })).toBe(1);
  });

  test("what the registry says against a manifest reaches the client", async () => {
    const image = makeImage({ seed: "nothing was pushed before" });
    const answer = await pushManifest(quay("bare"), image, image.digest);
    expect([answer.status, await codeOf(answer)]).toEqual([400, "MANIFEST_BLOB_UNKNOWN"]);
  });
});

test("patterns hold for every verb", async () => {
  const { digest } = makeImage();
  for (const repository of ["quay/org/closed", "basic/other/app"]) {
    for (const [method, rest] of [
      ["POST", "blobs/uploads/"],
      ["PATCH", "blobs/uploads/x"],
      ["PUT", "blobs/uploads/x"],
      ["GET", "blobs/uploads/x"],
      ["DELETE", "blobs/uploads/x"],
      ["PUT", "manifests/v1"],
      ["DELETE", "manifests/v1"],
      ["DELETE", `blobs/${digest}`],
    ] as const) {
      const answer = await farm.ask(`/v2/${repository}/${rest}`, {
        method,
        ...(method === "GET" ? {} : { body: "x" }),
      });
      expect([method, rest, answer.status, await codeOf(answer)]).toEqual([method, rest, 403, "DENIED"]);
    }
  }
  expect([farm.quay.count(), farm.basic.count()]).toEqual([0, 0]);
});

async function codeOf(response: Response): Promise<string | undefined> {
  const body = (await response.json()) as { errors?: { code: string }[] };
  return body.errors?.[0]?.code;
}
