import { expect, test } from "bun:test";
import fc from "fast-check";
import { createSealer } from "../../../src/proxy/seal.ts";

const sealer = createSealer(new Uint8Array(32).fill(7));

test("Sealer gives back what it sealed, and nothing when a single bit differs", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.nat(), (value, at) => {
      const sealed = sealer.seal(value);
      expect(sealer.open(sealed)).toEqual(JSON.parse(JSON.stringify(value)));
      const bytes = Buffer.from(sealed, "base64url");
      const index = at % bytes.length;
      bytes[index] = (bytes[index] ?? 0) ^ 1;
      expect(sealer.open(bytes.toString("base64url"))).toBeUndefined();
    }),
    { numRuns: 200 },
  );
});

test("Sealer.open() gives nothing for garbage of any length", () => {
  fc.assert(fc.property(fc.string(), (text) => expect(sealer.open(text)).toBeUndefined()));
  expect(sealer.open("")).toBeUndefined();
  expect(sealer.open("A".repeat(1_000_000))).toBeUndefined();
});

test("Sealer.open() gives nothing for what another key sealed", () => {
  const other = createSealer(new Uint8Array(32).fill(8));
  expect(other.open(sealer.seal({ a: 1 }))).toBeUndefined();
});

test("Sealer.fingerprint() tells apart parts that join to the same text, and keys", () => {
  expect(sealer.fingerprint("a", "bc")).not.toBe(sealer.fingerprint("ab", "c"));
  expect(sealer.fingerprint("a")).not.toBe(createSealer(new Uint8Array(32)).fingerprint("a"));
  expect(sealer.fingerprint("alice", "secret")).not.toContain("secret");
});
