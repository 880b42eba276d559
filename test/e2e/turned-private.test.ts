/** A public repository that is closed one day: who was shown it, and when that ends, whoever else could read it for them. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import path from "node:path";
import { type Cached, startCached } from "../support/cached.ts";
import { layerOf } from "../support/farm.ts";

const MINUTE_MS = 60_000;
const REPOSITORY = "/v2/ghcr/org/app";

test.each([
  ["without credentials of ours", undefined],
  ["though configured credentials can read it", [{ username: "alice", password: "secret" }]],
])("[R245, R246] a repository that was closed is hidden a quarter of an hour after its proof, %s", async (_, given) => {
  const entries = given === undefined ? {} : { ghcr: { credentials: given } };
  await using own = await startCached({ seed: "closed", entries, args: ["--tag-ttl", "1h"] });
  await openAndClose(own);
  // Nothing has been asked since: what was proven holds for its time.
  expect(await states(own)).toEqual(["200 HIT", "200 HIT", "200 HIT"]);
  ageGrants(own, 16 * MINUTE_MS);
  // What another process wrote is seen a moment later.
  while ((await states(own)).includes("200 HIT"));
  expect(await states(own)).toEqual(["401 null", "401 null", "401 null"]);
});

test("[R245] one that was closed is hidden by the first refusal, of whatever is asked", async () => {
  await using own = await startCached({ seed: "refused" });
  await openAndClose(own);
  const [tag, digest, blob] = [await states(own), await states(own), await states(own)].map((each) => each.join());
  expect([tag, digest, blob]).toEqual(Array(3).fill("401 null,401 null,401 null"));
});

test("[R245, R214] one that is open again is shown again at once", async () => {
  await using own = await startCached({ seed: "reopened" });
  const { ghcr } = own.farm;
  await openAndClose(own);
  await states(own);
  ghcr.access.privateRepositories = ghcr.access.privateRepositories.filter((name) => name !== "org/app");
  ghcr.expireTokens();
  expect((await states(own)).every((state) => state.startsWith("200"))).toBe(true);
});

/** In the cache for everybody, then private at its registry, where no token of before holds. */
async function openAndClose(own: Cached): Promise<void> {
  const { ghcr } = own.farm;
  while ((await states(own)).some((state) => !/HIT|REVALIDATED/.test(state)));
  ghcr.access.privateRepositories = [...ghcr.access.privateRepositories, "org/app"];
  ghcr.expireTokens();
}

/** The answers to nobody's requests for the tag, the digest and the layer. */
async function states(own: Cached): Promise<string[]> {
  const image = own.farm.images.ghcr;
  const found = [];
  for (const what of ["manifests/latest", `manifests/${image.digest}`, `blobs/${layerOf(image)}`]) {
    const { status, cache } = await own.pull(`${REPOSITORY}/${what}`);
    found.push(`${status} ${cache}`);
  }
  return found;
}

function ageGrants({ directory }: Cached, byMs: number): void {
  using records = new Database(path.join(directory, "records.sqlite"));
  records.run("UPDATE grants SET checkedMs = checkedMs - ?", [byMs]);
}
