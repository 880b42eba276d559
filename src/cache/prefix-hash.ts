/**
 * The hash of the first bytes of a content, read back from where they are, for followers that go on without the store.
 * They stand at the same place nearly always, so that one of them reads for all.
 */
import { type Digest, isVerifiable } from "../registry/digest.ts";
import { hashPart, type Readable } from "./hash-file.ts";
import { hasherFor } from "./layout.ts";

export interface PrefixHash {
  /** A hasher of one's own, fed with so many bytes; undefined when they cannot be read. */
  of(bytes: number, content: Readable | undefined): Promise<Bun.CryptoHasher | undefined>;
}

export function createPrefixHash(digest: Digest): PrefixHash {
  let last: { readonly bytes: number; readonly hasher: Promise<Bun.CryptoHasher | undefined> } | undefined;

  async function read(bytes: number, content: Readable): Promise<Bun.CryptoHasher | undefined> {
    try {
      const hasher = hasherFor(digest);
      await hashPart(content, hasher, { first: 0, end: bytes });
      return hasher;
    } catch {
      // The store failed already; without these bytes the length is all that can be checked.
      return undefined;
    }
  }

  return {
    async of(bytes, content) {
      if (!isVerifiable(digest)) return undefined;
      if (bytes === 0) return hasherFor(digest);
      if (content === undefined) return undefined;
      if (last?.bytes !== bytes) last = { bytes, hasher: read(bytes, content) };
      const shared = await last.hasher;
      return shared?.copy();
    },
  };
}
