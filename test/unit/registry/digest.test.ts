import { describe, expect, test } from "bun:test";
import { isVerifiable, parseDigest } from "../../../src/registry/digest.ts";

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

describe("parseDigest()", () => {
  test.each([
    ["sha256", `sha256:${hex64}`],
    ["sha512", `sha512:${hex64}${hex64}`],
    ["blake3", `blake3:${hex64}`],
    ["sha256+b64u", "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564"],
    ["multihash+base58", "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8"],
    ["a.b_c-d", "a.b_c-d:="],
  ])("[R10, R11] accepts %s", (algorithm, text) => {
    expect(parseDigest(text)).toEqual({ algorithm, encoded: text.slice(algorithm.length + 1), text });
  });

  test.each([
    ["nothing", ""],
    ["no colon", hex64],
    ["no algorithm", `:${hex64}`],
    ["nothing encoded", "sha256:"],
    ["upper-case hex", `sha256:${hex64.toUpperCase()}`],
    ["one digit too few", `sha256:${hex64.slice(1)}`],
    ["one digit too many", `sha256:${hex64}0`],
    ["sha512 of sha256's length", `sha512:${hex64}`],
    ["upper-case algorithm", `SHA256:${hex64}`],
    ["separator at the end of the algorithm", `sha256+:${hex64}`],
    ["two separators", `a++b:${hex64}`],
    ["two colons", `a:b:${hex64}`],
    ["a slash", "a:b/c"],
    ["a trailing newline", `sha256:${hex64}\n`],
    ["a leading blank", ` sha256:${hex64}`],
    ["an encoded colon", `sha256%3A${hex64}`],
    ["the conformance suite's example", "sha256:baddigeststring"],
    ["256 characters", `a:${"b".repeat(254)}`],
    ["a megabyte", `a:${"b".repeat(1_000_000)}`],
  ])("[R10, R14] refuses %s", (_, text) => {
    expect(parseDigest(text)).toBeUndefined();
  });
});

test("[R11] isVerifiable() holds for sha256 and sha512 only", () => {
  const verifiable = [`sha256:${hex64}`, `sha512:${hex64}${hex64}`, `blake3:${hex64}`, "md5:abc"].map((text) => {
    const digest = parseDigest(text);
    return digest !== undefined && isVerifiable(digest);
  });
  expect(verifiable).toEqual([true, true, false, false]);
});
