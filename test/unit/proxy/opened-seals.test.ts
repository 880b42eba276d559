import { expect, test } from "bun:test";
import { rememberOpened } from "../../../src/proxy/opened-seals.ts";
import { createSealer } from "../../../src/proxy/seal.ts";

test("rememberOpened() opens a sealed value once, and what is not ours each time", () => {
  const sealer = createSealer(new Uint8Array(32));
  const opened: string[] = [];
  const open = rememberOpened((sealed) => {
    opened.push(sealed);
    return sealer.open(sealed);
  });
  const sealed = sealer.seal({ of: "alice" });
  expect([open(sealed), open(sealed), open("forged"), open("forged")]).toEqual([
    { of: "alice" },
    { of: "alice" },
    undefined,
    undefined,
  ]);
  expect(opened).toEqual([sealed, "forged", "forged"]);
});

test("rememberOpened() forgets the oldest of many long ones", () => {
  const sealer = createSealer(new Uint8Array(32));
  let times = 0;
  const open = rememberOpened((sealed) => {
    times += 1;
    return sealer.open(sealed);
  });
  const sealed = Array.from({ length: 500 }, (_, index) => sealer.seal({ index, of: "x".repeat(10_000) }));
  for (const each of sealed) open(each);
  expect(open(sealed[0] ?? "")).toMatchObject({ index: 0 });
  expect(times).toBe(501);
});
