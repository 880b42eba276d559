/** Records that are odd: written by a clock that was ahead, deleted, or about one digest as blob and as manifest. */
import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { rm } from "node:fs/promises";
import path from "node:path";
import { type Cached, startCached } from "../support/cached.ts";
import { digestOf, makeImage } from "../support/images.ts";

const YEAR_MS = 365 * 86_400_000;

let own: Cached;
afterEach(async () => {
  await own[Symbol.asyncDispose]();
});

test("[T25] a tag that a clock ahead of time looked at is asked for again", async () => {
  own = await startCached({ seed: "ahead", args: ["--tag-ttl", "1h"] });
  const { repository, path: target } = own.fresh();
  await own.pull(`${target}/manifests/latest`);
  await edited("UPDATE tag SET checkedMs = checkedMs + ?");
  const moved = makeImage({ seed: `${repository}/moved` });
  own.farm.quay.add(repository, moved);
  expect(digestOf((await own.pull(`${target}/manifests/latest`)).body)).toBe(moved.digest);
});

test("[R245] a grant that a clock ahead of time gave is asked for again", async () => {
  own = await startCached({ seed: "granted" });
  const { layer, image, path: target } = own.fresh();
  for (const what of [`manifests/${image.digest}`, `blobs/${layer}`]) await own.pull(`${target}/${what}`);
  await edited("UPDATE grants SET checkedMs = checkedMs + ?");
  own.farm.quay.faults.manifest.status = 401;
  own.farm.quay.faults.blob.status = 401;
  expect((await own.pull(`${target}/blobs/${layer}`)).status).toBe(401);
});

test("[R233, R244] a manifest that was pulled as a blob first is kept as a manifest too", async () => {
  own = await startCached({ seed: "both" });
  const { image, repository, path: target } = own.fresh();
  const manifest = image.manifests.get(image.digest)?.bytes ?? new Uint8Array();
  own.farm.quay.content.repositories.get(repository)?.blobs.set(image.digest, manifest);
  own.farm.quay.add(repository, makeImage({ seed: `${repository}/other`, tags: ["other"] }));
  await own.pull(`${target}/manifests/other`);
  for (let cache: string | null = ""; cache !== "HIT";)
    cache = (await own.pull(`${target}/blobs/${image.digest}`)).cache;
  const { headers } = await own.pull(`${target}/manifests/latest`);
  own.farm.quay.reset();
  const again = await own.pull(`${target}/manifests/${image.digest}`);
  expect([again.cache, own.farm.quay.count()]).toEqual(["HIT", 0]);
  expect(again.headers.get("content-type")).toBe(headers.get("content-type") ?? "");
  expect(namedBy(image.digest)).toBe(image.blobs.size);
});

test("[R233] what a manifest names is known again after its records were deleted, by the first pull of each repository", async () => {
  own = await startCached({ seed: "named" });
  const { image, path: target } = own.fresh();
  own.farm.quay.add("org/second", image);
  await own.pull(`${target}/manifests/latest`);
  await own.layover.stop();
  for (const end of ["", "-wal", "-shm"]) await rm(path.join(own.directory, `records.sqlite${end}`), { force: true });
  await own.restart();
  await own.pull(`${target}/manifests/latest`);
  expect(namedBy(image.digest)).toBe(image.blobs.size);
  await edited("DELETE FROM reference WHERE ? > 0");
  await own.pull("/v2/quay/org/second/manifests/latest");
  expect(namedBy(image.digest)).toBe(image.blobs.size);
});

/** Changes the records by a statement that takes a year; the program is started anew on them. */
async function edited(statement: string): Promise<void> {
  await own.layover.stop();
  using records = new Database(path.join(own.directory, "records.sqlite"));
  records.run(statement, [YEAR_MS]);
  await own.restart();
}

function namedBy(digest: string): number {
  using records = new Database(path.join(own.directory, "records.sqlite"), { readonly: true });
  const row = records
    .query<{ rows: number }, [string]>(
      "SELECT count(*) AS rows FROM reference JOIN content ON content.id = manifest WHERE digest = ?",
    )
    .get(digest);
  return row?.rows ?? 0;
}
