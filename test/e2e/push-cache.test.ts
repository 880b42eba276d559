/** What is pushed through is pulled at once, and what the cache knew of it is forgotten (protocol R78). */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { type Cached, startCached } from "../support/cached.ts";
import { layerOf } from "../support/farm.ts";
import { digestOf, type Image, makeImage } from "../support/images.ts";
import { metricsOf, total, untilTotal } from "../support/metrics.ts";
import { beginUpload, finishUpload, pushImage, pushManifest, type PushPlace, pushRequest } from "../support/pushing.ts";

let cached: Cached;
beforeAll(async () => {
  cached = await startCached({ seed: "push", args: ["--allow-push", "--tag-ttl", "1h"] });
});
afterEach(() => cached.farm.reset());
afterAll(() => cached[Symbol.asyncDispose]());

const place = (name: string): PushPlace => ({ server: cached.layover.url, path: `/v2/quay/org/${name}` });
const quay = () => cached.farm.quay;
const pulled = async (name: string, reference: string) => {
  const { status, body, headers } = await cached.pull(`/v2/quay/org/${name}/manifests/${reference}`);
  return [status, status === 200 ? digestOf(body) : undefined, headers.get("x-cache")];
};

/** Two images of a repository, the first of them there and known by its tag. */
async function known(name: string): Promise<{ first: Image; second: Image }> {
  const [first, second] = [makeImage({ seed: `${name} 1` }), makeImage({ seed: `${name} 2` })];
  quay().add(`org/${name}`, first);
  quay().add(`org/${name}`, { ...second, tags: new Map() });
  await pulled(name, "latest");
  expect(await pulled(name, "latest")).toEqual([200, first.digest, "HIT"]);
  return { first, second };
}

describe("[R78] a tag that is pushed", () => {
  test("is the new one at once, though it was good for an hour", async () => {
    const { second } = await known("moved");
    expect((await pushManifest(place("moved"), second, second.digest, "latest")).status).toBe(201);
    expect(await pulled("moved", "latest")).toEqual([200, second.digest, "MISS"]);
    expect(await pulled("moved", "latest")).toEqual([200, second.digest, "HIT"]);
  });

  test("[R77] so are the tags it names besides", async () => {
    const { second } = await known("named");
    await pushManifest(place("named"), second, second.digest, `${second.digest}?tag=latest&tag=more`);
    expect(await pulled("named", "latest")).toEqual([200, second.digest, "MISS"]);
    expect(await pulled("named", "more")).toEqual([200, second.digest, "MISS"]);
  });

  test("is there although it was found absent a moment before, as are its blobs", async () => {
    const image = makeImage({ seed: "absent" });
    quay().add("org/absent", {
      ...makeImage({ seed: "other" }),
      tags: new Map([["other", makeImage({ seed: "other" }).digest]]),
    });
    await pulled("absent", "other");
    expect(await pulled("absent", "latest")).toEqual([404, undefined, null]);
    const blob = `/blobs/${layerOf(image)}`;
    expect((await pushRequest(place("absent"), blob, { method: "HEAD" })).status).toBe(404);
    expect((await pushRequest(place("absent"), blob, { method: "GET" })).status).toBe(404);
    await pushImage(place("absent"), image);
    expect(await pulled("absent", "latest")).toEqual([200, image.digest, "MISS"]);
    expect((await pushRequest(place("absent"), blob, { method: "GET" })).status).toBe(200);
    expect((await pushRequest(place("absent"), blob, { method: "HEAD" })).status).toBe(200);
  });

  for (const [title, isThere] of [
    ["found what was there", true],
    ["found nothing", false],
  ] as const) {
    test(`is the new one, though a look that began before and ended after it ${title}`, async () => {
      const name = isThere ? "raced" : "raced-absent";
      const { second } = await known(name);
      const tag = isThere ? "later" : "none";
      const [, first] = [...(quay().content.repositories.get(`org/${name}`)?.tags.entries() ?? [])][0] ?? [];
      if (isThere)
        quay()
          .content.repositories.get(`org/${name}`)
          ?.tags.set("later", first ?? "");
      // The answer is made when the question comes, and held on its way.
      quay().faults.manifest = { stallBeforeHeaders: true, match: ({ method }) => method === "HEAD" };
      const before = pulled(name, tag);
      await quay().untilHeld(1);
      expect((await pushManifest(place(name), second, second.digest, tag)).status).toBe(201);
      quay().faults.manifest = {};
      quay().release();
      await before;
      expect(await pulled(name, tag)).toEqual([200, second.digest, "MISS"]);
      expect(await pulled(name, tag)).toEqual([200, second.digest, "HIT"]);
    });
  }

  test("is asked for anew when nobody knows what became of the push", async () => {
    const { second } = await known("unknown");
    quay().faults.manifest = { hangUp: "reset", match: ({ method }) => method === "PUT" };
    expect((await pushManifest(place("unknown"), second, second.digest, "latest")).status).toBe(502);
    expect(quay().content.repositories.get("org/unknown")?.tags.get("latest")).toBe(second.digest);
    expect(await pulled("unknown", "latest")).toEqual([200, second.digest, "MISS"]);
  });

  test("is served still where the registry refused the push, or cannot be reached", async () => {
    const { first, second } = await known("refused");
    for (const status of [401, 403, 400, 429]) {
      quay().faults.manifest = { status, match: ({ method }) => method === "PUT" };
      expect((await pushManifest(place("refused"), second, second.digest, "latest")).status).toBe(
        status === 403 ? 401 : status,
      );
      expect(await pulled("refused", "latest")).toEqual([200, first.digest, "HIT"]);
    }
    quay().faults.manifest = { hangUp: "reset" };
    expect((await pushManifest(place("refused"), second, second.digest, "latest")).status).toBe(502);
    expect(await pulled("refused", "latest")).toEqual([200, first.digest, "STALE"]);
  });
});

describe("[R78] what is deleted is 404 at once:", () => {
  test("a tag", async () => {
    await known("untagged");
    expect((await pushRequest(place("untagged"), "/manifests/latest", { method: "DELETE" })).status).toBe(202);
    expect((await pulled("untagged", "latest"))[0]).toBe(404);
  });

  test("a manifest by digest, with the tags that were it", async () => {
    const { first } = await known("removed");
    expect((await pushRequest(place("removed"), `/manifests/${first.digest}`, { method: "DELETE" })).status).toBe(202);
    expect((await pulled("removed", first.digest))[0]).toBe(404);
    expect((await pulled("removed", "latest"))[0]).toBe(404);
  });

  test("a blob, in this repository alone", async () => {
    const { first } = await known("bloblet");
    quay().add("org/neighbour", first);
    const blob = `/blobs/${layerOf(first)}`;
    for (const name of ["bloblet", "neighbour"]) {
      await pulled(name, "latest");
      await (await pushRequest(place(name), blob, { method: "GET" })).bytes();
    }
    expect((await pushRequest(place("bloblet"), blob, { method: "DELETE" })).status).toBe(202);
    expect((await pushRequest(place("bloblet"), blob, { method: "GET" })).status).toBe(404);
    const asked = quay().count({ method: "GET", path: /\/blobs\// });
    const neighbour = await pushRequest(place("neighbour"), blob, { method: "GET" });
    expect(digestOf(await neighbour.bytes())).toBe(layerOf(first));
    expect(quay().count({ method: "GET", path: /\/blobs\// })).toBe(asked);
  });

  test("a blob whose download was under way", async () => {
    const { first } = await known("running");
    const blob = `/blobs/${layerOf(first)}`;
    quay().faults.blob = { stallAfterBytes: 100, match: ({ method }) => method === "GET" };
    const answer = await pushRequest(place("running"), blob, { method: "GET" });
    await quay().untilHeld(1);
    expect((await pushRequest(place("running"), blob, { method: "DELETE" })).status).toBe(202);
    quay().faults.blob = {};
    quay().release();
    expect(digestOf(await answer.bytes())).toBe(layerOf(first));
    expect((await pushRequest(place("running"), blob, { method: "GET" })).status).toBe(404);
  });

  test("a manifest that was on its way", async () => {
    const { second } = await known("fetching");
    quay().faults.manifest = { stallAfterBytes: 10, match: ({ method }) => method === "GET" };
    const answer = pulled("fetching", second.digest);
    await quay().untilHeld(1);
    expect((await pushRequest(place("fetching"), `/manifests/${second.digest}`, { method: "DELETE" })).status).toBe(
      202,
    );
    quay().faults.manifest = {};
    quay().release();
    expect((await answer)[1]).toBe(second.digest);
    expect((await pulled("fetching", second.digest))[0]).toBe(404);
  });

  test("and what nobody could delete is still there", async () => {
    const { first } = await known("kept");
    quay().faults.manifest = { status: 401, match: ({ method }) => method === "DELETE" };
    expect((await pushRequest(place("kept"), `/manifests/${first.digest}`, { method: "DELETE" })).status).toBe(401);
    quay().faults.manifest = { hangUp: "reset" };
    expect((await pushRequest(place("kept"), `/manifests/${first.digest}`, { method: "DELETE" })).status).toBe(502);
    expect(await pulled("kept", "latest")).toEqual([200, first.digest, expect.stringMatching(/HIT|STALE/)]);
  });
});

test("HEAD says what the registry has: a pusher leaves out what is there, and the manifest would be refused", async () => {
  const { first } = await known("collected");
  const blob = `/blobs/${layerOf(first)}`;
  const fills = ["layover_fills_total", { result: "committed" }] as const;
  const before = total(await metricsOf(cached.layover.url), ...fills);
  await (await pushRequest(place("collected"), blob, { method: "GET" })).bytes();
  await untilTotal(cached.layover.url, [...fills], before + 1);
  expect((await pushRequest(place("collected"), blob, { method: "GET" })).headers.get("x-cache")).toBe("HIT");
  const held = quay().content.repositories.get("org/collected");
  held?.blobs.clear(); // behind our back
  held?.manifests.delete(first.digest);
  expect((await pushRequest(place("collected"), blob, { method: "HEAD" })).status).toBe(404);
  expect((await pushRequest(place("collected"), `/manifests/${first.digest}`, { method: "HEAD" })).status).toBe(404);
  await pushImage(place("collected"), first);
  quay().faults.blob = { hangUp: "reset" };
  quay().faults.manifest = { hangUp: "reset" };
  expect((await pushRequest(place("collected"), `/manifests/latest`, { method: "HEAD" })).status).not.toBe(404);
});

test("a whole push and pull: the registry is asked for each manifest once, and has each blob", async () => {
  const image = makeImage({ seed: "round", layers: [50_000, 100] });
  await pushImage(place("round"), image);
  for (let turn = 0; turn < 2; turn++) {
    expect((await pulled("round", "latest"))[1]).toBe(image.digest);
    for (const [digest] of image.blobs) {
      const body = await (await pushRequest(place("round"), `/blobs/${digest}`, { method: "GET" })).bytes();
      expect(digestOf(body)).toBe(digest);
    }
  }
  expect(quay().count({ method: "GET", path: /org\/round\/manifests/ })).toBe(1);
  expect(quay().count({ method: "GET", path: /org\/round\/blobs/ })).toBe(image.blobs.size);
  await finishUpload(place("round"), await beginUpload(place("round")), { digest: image.digest });
});
