import { expect, test } from "bun:test";
import { childrenOf } from "../../../src/proxy/references.ts";

const ONE = `sha256:${"1".repeat(64)}`;
const TWO = `sha512:${"2".repeat(128)}`;

function bytesOf(document: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(document));
}

test("childrenOf() gives config, layers and members, each once", () => {
  const manifest = {
    config: { digest: ONE },
    layers: [{ digest: TWO }, { digest: ONE }],
    manifests: [{ digest: TWO }],
  };
  expect(childrenOf(bytesOf(manifest))).toEqual([ONE, TWO]);
});

test("childrenOf() leaves out what is no digest that can be kept", () => {
  const odd = ["x".repeat(100_000), "sha256:1", `blake3:${"1".repeat(64)}`, 7, null, { digest: ONE }];
  const layers = [...odd.map((digest) => ({ digest })), null, "text", [ONE], { digest: ONE }];
  expect(childrenOf(bytesOf({ layers }))).toEqual([ONE]);
});

test.each(["", "[]", "null", "{", '{"layers":{}}'])("childrenOf() of %p is nothing", (text) => {
  expect(childrenOf(new TextEncoder().encode(text))).toEqual([]);
});
