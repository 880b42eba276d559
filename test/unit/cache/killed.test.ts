/** What a process that was killed leaves behind (protocol R264): found again at once, nothing piles up, nothing is wrong. */
import { expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { createFills } from "../../../src/cache/fill.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { createFilesystemStore } from "../../../src/cache/filesystem.ts";
import { createFakeSource, digestOfBytes, drain, noise } from "../../support/fill-source.ts";
import { createTempDir, type TempDir } from "../../support/temp-dir.ts";

const silent = { info: () => undefined, warn: () => undefined };
const CHILD = new URL("../../support/cache-child.ts", import.meta.url).pathname;
const SIZE = 6_000_000;

/** Runs a fill in a process of its own until `more` bytes came, then kills it. */
async function killedFill(dir: TempDir, more: number): Promise<{ from: number; at: number }> {
  const child = Bun.spawn([process.execPath, CHILD, dir.path, String(SIZE), "1", String(more)], {
    stdout: "pipe",
    stderr: "inherit",
  });
  let text = "";
  const decoder = new TextDecoder();
  for await (const piece of child.stdout) {
    text += decoder.decode(piece, { stream: true });
    if (/^at \d+$/m.test(text)) break;
  }
  child.kill("SIGKILL");
  await child.exited;
  const number = (word: string): number => Number(new RegExp(`^${word} (\\d+)$`, "m").exec(text)?.[1]);
  return { from: number("from"), at: number("at") };
}

test("[T20] twenty kills in mid-fill: each next process goes on, no files pile up, the content is right", async () => {
  await using dir = await createTempDir();
  const bytes = noise(SIZE, 1);
  let last = 0;
  for (let round = 0; round < 20; round++) {
    const { from, at } = await killedFill(dir, 100_000);
    expect(from).toBeGreaterThanOrEqual(Math.max(0, last - 1));
    expect(at).toBeGreaterThan(from);
    last = at;
    const files = (await readdir(dir.file("spool"), { recursive: true })).filter((name) => name.includes("sha256-"));
    expect(files).toHaveLength(1);
    expect(await readdir(dir.file("spool"))).toHaveLength(1);
  }
  expect(last).toBeLessThan(SIZE);

  const store = await createFilesystemStore({ directory: dir.path, maxBytes: 1e9, minFreeBytes: 0 }, { log: silent });
  const fills = createFills(
    { maxFills: 1 },
    { store, log: silent, downloads: createDownloads({ idleTimeoutMs: 5000 }) },
  );
  const source = createFakeSource({ bytes, pieceBytes: () => 20_000 });
  const fill = fills.join(digestOfBytes(bytes), source.open);
  const got = fill === undefined ? undefined : await drain(fill.follow({ first: 0, last: undefined }));
  expect(got?.bytes.equals(bytes)).toBe(true);
  expect(source.offsets[0]).toBeGreaterThanOrEqual(last - 1);
  expect((await fill?.done)?.kind).toBe("committed");
  expect(await store.verify(digestOfBytes(bytes), new AbortController().signal)).toBe("good");
  await fills.close();
  await store.close();
  expect(await readdir(dir.file("spool"))).toEqual([]);
}, 60_000);

test("[T20] a living process takes over what one beside it left, when it is asked", async () => {
  await using dir = await createTempDir();
  const store = await createFilesystemStore({ directory: dir.path, maxBytes: 1e9, minFreeBytes: 0 }, { log: silent });
  const digest = digestOfBytes(noise(SIZE, 1));
  const { at } = await killedFill(dir, 100_000);
  const spool = await store.spool(digest, SIZE);
  expect(spool.length).toBeGreaterThanOrEqual(at);
  await spool.discard();
  await store.close();
});
