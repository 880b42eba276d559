import { describe, expect, test } from "bun:test";
import { withSmallContents } from "../../../src/cache/small-contents.ts";
import type { Store } from "../../../src/cache/store.ts";
import { type Digest, parseDigest } from "../../../src/registry/digest.ts";
import { createMemoryStore } from "../../support/memory-store.ts";

interface Fixture {
  readonly store: Store;
  readonly below: ReturnType<typeof createMemoryStore>;
  /** How often the store below was asked for a look or for content. */
  readonly asked: { find: number; open: number };
  pass(ms: number): void;
}

function fixture(maxBytes?: number): Fixture {
  const below = createMemoryStore({ maxBytes: 1e9 });
  const asked = { find: 0, open: 0 };
  const counting: Store = {
    ...below,
    find: (digest) => ((asked.find += 1), below.find(digest)),
    open: (digest) => ((asked.open += 1), below.open(digest)),
  };
  let nowMs = 0;
  const options = maxBytes === undefined ? {} : { maxBytes };
  const store = withSmallContents(counting, options, { now: () => nowMs });
  return { store, below, asked, pass: (ms) => void (nowMs += ms) };
}

async function put(store: Store, text: string): Promise<Digest> {
  const bytes = new TextEncoder().encode(text);
  const digest = parseDigest(`sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`);
  if (digest === undefined) throw new Error("expected a digest");
  const spool = await store.spool(digest, bytes.byteLength);
  await spool.append(bytes);
  await spool.commit();
  return digest;
}

async function textOf(store: Store, digest: Digest): Promise<string | undefined> {
  const reader = await store.open(digest);
  if (reader === undefined) return undefined;
  const into = new Uint8Array(reader.bytes);
  await reader.read(into, 0);
  await reader.close();
  return new TextDecoder().decode(into);
}

/** As often as it takes to be held. */
async function openOften(store: Store, digest: Digest): Promise<void> {
  for (let i = 0; i < 8; i += 1) await textOf(store, digest);
}

describe("withSmallContents()", () => {
  test("the store below is opened eight times, then no more, and looked at once a second", async () => {
    const { store, asked, pass } = fixture();
    const digest = await put(store, "manifest");
    for (let i = 0; i < 12; i += 1) expect(await textOf(store, digest)).toBe("manifest");
    expect(await store.find(digest)).toEqual({ digest: digest.text, bytes: 8 });
    expect(asked).toEqual({ find: 0, open: 8 });
    pass(1000);
    for (let i = 0; i < 5; i += 1) await textOf(store, digest);
    expect(asked).toEqual({ find: 1, open: 8 });
  });

  test("remove() is seen by the next who asks", async () => {
    const { store } = fixture();
    const digest = await put(store, "manifest");
    await openOften(store, digest);
    await store.remove(digest);
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.open(digest)).toBeUndefined();
  });

  test("what the store below lost is seen within a second", async () => {
    const { store, below, pass } = fixture();
    const digest = await put(store, "manifest");
    await openOften(store, digest);
    await below.remove(digest);
    pass(1000);
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.open(digest)).toBeUndefined();
  });

  test("content that is not what its digest says is not held, and verify() lets go of what proves damaged", async () => {
    const { store, below } = fixture();
    const digest = await put(store, "manifest");
    for (let i = 0; i < 7; i += 1) await textOf(store, digest);
    below.plant(digest, new TextEncoder().encode("damaged!"));
    const reader = await store.open(digest);
    expect(reader?.verified).toBeUndefined();
    await reader?.close();

    const other = await put(store, "another");
    await openOften(store, other);
    expect((await store.open(other))?.verified).toBeDefined();
    below.plant(other, new TextEncoder().encode("damaged"));
    expect(await store.verify(other, new AbortController().signal)).toBe("damaged");
    expect(await store.open(other)).toBeUndefined();
  });

  test("holds no more bytes than it may, and no large content", async () => {
    const { store, asked } = fixture(20);
    const digests = [await put(store, "0123456789"), await put(store, "abcdefghij")];
    for (let i = 0; i < 12; i += 1) for (const digest of digests) await textOf(store, digest);
    expect(asked.open).toBe(24);

    const large = fixture();
    const digest = await put(large.store, "x".repeat(256 * 1024 + 1));
    for (let i = 0; i < 12; i += 1) await textOf(large.store, digest);
    expect(large.asked.open).toBe(12);
  });
});
