import { expect, test } from "bun:test";
import { createPeerRanges } from "../../../src/proxy/peer-ranges.ts";

test.each([
  ["10.1.2.3", true],
  ["::ffff:10.1.2.3", true],
  ["0000:0000:0000:0000:0000:ffff:10.100.200.255", true],
  ["11.1.2.3", false],
  ["2001:db8::1", true],
  ["2001:db9::1", false],
  ["unix", true],
  ["", false],
  ["10.1.2.3, 10.1.2.4", false],
  [`10.1.2.${"3".repeat(100_000)}`, false],
])("createPeerRanges() says of an address each time the same: %#", (address, expected) => {
  const isWithin = createPeerRanges(["10.0.0.0/8", "2001:db8::/32", "unix"]);
  for (const turn of [1, 2]) expect([turn, isWithin(address)]).toEqual([turn, expected]);
  expect(createPeerRanges([])(address)).toBe(false);
});
