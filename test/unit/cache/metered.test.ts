/** What is counted about the cache: failures of its disk, damaged content, how downloads end. */
import { describe, expect, test } from "bun:test";
import { UpstreamError } from "../../../src/errors.ts";
import { type StoreFailure, meteredStore } from "../../../src/cache/metered-store.ts";
import { endOf } from "../../../src/cache/metered-fills.ts";
import { type Spool, type Store, StoreError, type StoreErrorKind } from "../../../src/cache/store.ts";
import { type Digest, parseDigest } from "../../../src/registry/digest.ts";

const digest = digestOfZeros();

function digestOfZeros(): Digest {
  const parsed = parseDigest(`sha256:${"0".repeat(64)}`);
  if (parsed === undefined) throw new Error("expected a digest");
  return parsed;
}

const systemError = (code: string) => Object.assign(new Error(code), { code });

function failing(kind: StoreErrorKind, code?: string) {
  const cause = code === undefined ? {} : { cause: systemError(code) };
  return async (): Promise<never> => {
    throw new StoreError(kind, "could not", cause);
  };
}

/** A store whose operations fail so, and what its meter was told. */
function metered(fail: () => Promise<never>) {
  const failures: StoreFailure[] = [];
  const spool: Spool = {
    digest,
    length: 7,
    append: fail,
    expect: fail,
    open: fail,
    verify: fail,
    commit: fail,
    suspend: async () => undefined,
    discard: async () => undefined,
  };
  const base: Store = {
    find: fail,
    open: fail,
    spool: async () => spool,
    remove: fail,
    list: async function* () {},
    verify: async () => "damaged" as const,
    usage: () => ({ bytes: 0, count: 0, spooledBytes: 0, isComplete: true }),
    close: async () => undefined,
  };
  const store = meteredStore(base, { failed: (failure) => void failures.push(failure) });
  return { store, failures };
}

describe("meteredStore()", () => {
  test.each([
    ["full", "ENOSPC", "full"],
    ["full", undefined, "full"],
    ["broken", "EROFS", "read-only"],
    ["broken", "EACCES", "read-only"],
    ["broken", "EIO", "broken"],
    ["broken", undefined, "broken"],
  ] as const)("tells of a %s store (%p) as %s, and fails all the same", async (kind, code, expected) => {
    const { store, failures } = metered(failing(kind, code));
    await expect(store.find(digest)).rejects.toBeInstanceOf(StoreError);
    await expect(store.open(digest)).rejects.toBeInstanceOf(StoreError);
    await expect(store.remove(digest)).rejects.toBeInstanceOf(StoreError);
    const spool = await store.spool(digest, undefined);
    expect(spool.length).toBe(7);
    await expect(spool.append(new Uint8Array(1))).rejects.toBeInstanceOf(StoreError);
    await expect(spool.expect(1)).rejects.toBeInstanceOf(StoreError);
    await expect(spool.commit()).rejects.toBeInstanceOf(StoreError);
    expect(failures).toEqual(Array(6).fill(expected));
  });

  test("takes wrong content for no failure of the store", async () => {
    const { store, failures } = metered(failing("mismatch"));
    const spool = await store.spool(digest, undefined);
    await expect(spool.verify()).rejects.toBeInstanceOf(StoreError);
    expect(failures).toEqual([]);
  });
});

test.each([
  ["committed", { kind: "committed", content: { digest: "sha256:0", bytes: 1 } }],
  ["not-kept", { kind: "failed", error: new StoreError("full", "no room") }],
  [
    "wrong",
    {
      kind: "failed",
      error: new UpstreamError("bad-answer", "mismatch", { cause: new StoreError("mismatch", "mismatch") }),
    },
  ],
  ["failed", { kind: "failed", error: new UpstreamError("connect", "refused") }],
  ["failed", { kind: "failed", error: new Error("the server is stopping") }],
] as const)("endOf() calls it %s", (end, result) => {
  expect(endOf(result)).toBe(end);
});
