/** What a reader does in the moment between a wrong spool being thrown away and its fill saying so. */
import { expect, test } from "bun:test";
import { createFills } from "../../../src/cache/fill.ts";
import type { Spool, Store } from "../../../src/cache/store.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import type { ContentSource } from "../../../src/download/download.ts";
import { createFakeSource, digestOfBytes, noise } from "../../support/fill-source.ts";
import { createMemoryStore } from "../../support/memory-store.ts";

const silent = { info: () => undefined, warn: () => undefined };

/** A store whose spools say that they were wrong only when the gate opens; they are gone before. */
function slowToSay(store: Store, gate: Promise<void>, onWrong: () => void): Store {
  const slow = (spool: Spool): Spool => ({
    ...spool,
    get length() {
      return spool.length;
    },
    async verify() {
      await spool.verify().catch(async (error: unknown) => {
        onWrong();
        await gate;
        throw error;
      });
    },
  });
  return { ...store, spool: async (digest, bytes) => slow(await store.spool(digest, bytes)) };
}

test("[R234, R237] a reader of wrong content that was thrown away gets nothing more of it from elsewhere", async () => {
  const right = noise(3_000_000, 31);
  const wrong = right.slice();
  wrong[317] = (wrong[317] ?? 0) ^ 0x55;
  const pieceBytes = (): number => 64 * 1024;
  const sources = [createFakeSource({ bytes: wrong, pieceBytes }), createFakeSource({ bytes: right, pieceBytes })];
  let questions = 0;
  const open: ContentSource = (wanted, signal) => {
    const source = sources[Math.min(questions++, 1)];
    if (source === undefined) throw new Error("expected a source");
    return source.open(wanted, signal);
  };
  const gate = Promise.withResolvers<void>();
  const thrownAway = Promise.withResolvers<void>();
  const store = slowToSay(createMemoryStore(), gate.promise, thrownAway.resolve);
  const downloads = createDownloads({ idleTimeoutMs: 5000 }, { random: () => 0, sleep: async () => undefined });
  const fills = createFills({ maxFills: 1 }, { store, log: silent, downloads });
  const reader = fills.join(digestOfBytes(right), open)?.follow({ first: 0, last: undefined }).getReader();
  // The beginning comes from memory: no file is open when the rest is wanted.
  expect((await reader?.read())?.value?.byteLength).toBeGreaterThan(317);
  await thrownAway.promise;
  const rest = (async () => {
    while ((await reader?.read())?.done === false);
    return "whole";
  })().catch(() => "broken");
  // A second question would be asked within this.
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  gate.resolve();
  expect([await rest, questions]).toEqual(["broken", 1]);
  await fills.close();
});
