/** What it costs a registry that Layover keeps asking who may read: nothing for what is public, one HEAD per period of a login's. */
import { expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import path from "node:path";
import { type Cached, startCached } from "../support/cached.ts";
import { layerOf } from "../support/farm.ts";

const MINUTE_MS = 60_000;

test("[R244, T14] within the tag's time a warm public pull asks its registry nothing", async () => {
  await using own = await startCached({ seed: "costless", args: ["--tag-ttl", "1h"] });
  const { image, layer, path: repository } = own.fresh();
  const whats = ["manifests/latest", `manifests/${image.digest}`, `blobs/${layer}`];
  await warm(own, repository, whats, {});
  own.farm.reset();
  for (let turn = 0; turn < 5; turn += 1)
    for (const what of whats) expect((await own.pull(`${repository}/${what}`)).cache).toBe("HIT");
  expect([own.farm.quay.count(), own.farm.quay.tokenRequests.length]).toEqual([0, 0]);
});

test("[R244, R247] a warm private pull asks its registry once per period of its grant, by HEAD", async () => {
  await using own = await startCached({ seed: "period", args: ["--tag-ttl", "1h"] });
  const { ghcr, images } = own.farm;
  const whats = ["manifests/latest", `manifests/${images.secret.digest}`, `blobs/${layerOf(images.secret)}`];
  const headers = { authorization: `Bearer ${await own.farm.token("/token/ghcr", "alice:secret")}` };
  await warm(own, "/v2/ghcr/org/private", whats, headers);
  const asked = () => ghcr.requests.map(({ method, path: target }) => `${method} ${target.split("/").at(-2)}`);
  for (const questions of [[], ["HEAD manifests"], ["HEAD manifests"]]) {
    ghcr.requests.length = 0;
    if (questions.length > 0) ageGrants(own, 10 * MINUTE_MS);
    // What another process wrote is seen a moment later.
    while (asked().length < questions.length) await own.pull(`/v2/ghcr/org/private/${whats[0]}`, headers);
    for (let turn = 0; turn < 5; turn += 1) {
      const answers = await Promise.all(whats.map((what) => own.pull(`/v2/ghcr/org/private/${what}`, headers)));
      expect(answers.map(({ cache }) => cache)).toEqual(["HIT", "HIT", "HIT"]);
    }
    expect(asked()).toEqual(questions);
  }
});

/** Until all of it comes from the cache. */
async function warm(own: Cached, repository: string, whats: string[], headers: Record<string, string>): Promise<void> {
  for (const what of whats)
    for (let cache: string | null = ""; cache !== "HIT";)
      ({ cache } = await own.pull(`${repository}/${what}`, headers));
}

function ageGrants({ directory }: Cached, byMs: number): void {
  using records = new Database(path.join(directory, "records.sqlite"));
  records.run("UPDATE grants SET checkedMs = checkedMs - ?", [byMs]);
}
