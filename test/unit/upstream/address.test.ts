import { describe, expect, test } from "bun:test";
import {
  addressKind,
  addressLiteral,
  type AddressKind,
  type AddressRule,
  isInRange,
  isNumericName,
  mayDial,
  mayName,
  ruleTowards,
} from "../../../src/upstream/address.ts";

const KINDS: [string, AddressKind][] = [
  ["8.8.8.8", "public"],
  ["2606:4700::1111", "public"],
  ["64:ff9b::808:808", "public"],
  ["10.0.0.5", "private"],
  ["172.31.255.255", "private"],
  ["172.32.0.1", "public"],
  ["192.168.1.1", "private"],
  ["100.64.0.1", "private"],
  ["fd00::1", "private"],
  ["127.0.0.1", "loopback"],
  ["127.255.0.9", "loopback"],
  ["::1", "loopback"],
  ["169.254.169.254", "metadata"],
  ["fe80::1", "metadata"],
  ["fd00:ec2::254", "metadata"],
  ["100.100.100.200", "metadata"],
  ["168.63.129.16", "metadata"],
  ["::ffff:10.0.0.1", "private"],
  ["::ffff:127.0.0.1", "loopback"],
  ["::ffff:169.254.169.254", "metadata"],
  ["::ffff:a9fe:a9fe", "metadata"],
  ["64:ff9b::a9fe:a9fe", "metadata"],
  ["64:ff9b::7f00:1", "loopback"],
  ["64:ff9b::a00:1", "private"],
  ["::7f00:1", "reserved"],
  ["2002:7f00:1::", "reserved"],
  ["2001:0:7f00:1::", "reserved"],
  ["fec0::1", "reserved"],
  ["192.0.2.1", "reserved"],
  ["198.18.0.1", "reserved"],
  ["240.0.0.1", "reserved"],
  ["0.0.0.0", "nowhere"],
  ["0.1.2.3", "nowhere"],
  ["::", "nowhere"],
  ["255.255.255.255", "nowhere"],
  ["224.0.0.1", "nowhere"],
  ["ff02::1", "nowhere"],
  ["", "nowhere"],
  ["ghcr.io", "nowhere"],
  ["2130706433", "nowhere"],
];

describe("addressKind()", () => {
  test.each(KINDS)("[R108, T18] %s is %s", (address, kind) => {
    expect(addressKind(address)).toBe(kind);
  });
});

test("addressLiteral() reads hosts as URLs spell them and nothing that only getaddrinfo takes for an address", () => {
  expect(addressLiteral("[::1]")).toBe("::1");
  expect(addressLiteral("127.0.0.1")).toBe("127.0.0.1");
  for (const host of ["ghcr.io", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "", "[]", "localhost"]) {
    expect(addressLiteral(host)).toBeUndefined();
  }
});

test("[T18] isNumericName() finds decimal, octal, hexadecimal and shortened addresses", () => {
  for (const host of ["2130706433", "0x7f.1", "0x7f000001", "127.1", "0177.0.0.1", "1.2.3.4.5", "a.1", "127.1."]) {
    expect(isNumericName(host)).toBe(true);
  }
  for (const host of ["127.0.0.1", "ghcr.io", "1.example", "[::1]", "localhost", "x1"])
    expect(isNumericName(host)).toBe(false);
});

const configured: AddressRule = { kind: "configured" };
const fromPublic: AddressRule = { kind: "derived", from: "public", allow: [] };
const fromPrivate: AddressRule = { kind: "derived", from: "private", allow: [] };
const fromLoopback: AddressRule = { kind: "derived", from: "loopback", allow: [] };
const allowing: AddressRule = {
  kind: "derived",
  from: "public",
  allow: ["10.1.0.0/16", "fd00::/8", "169.254.0.0/16", "198.18.0.0/15"],
};

const RULES: [string, AddressRule, string, boolean][] = [
  ["a configured upstream on a public address", configured, "8.8.8.8", true],
  ["a configured upstream on a private address", configured, "10.0.0.5", true],
  ["a configured upstream on loopback", configured, "::1", true],
  ["a configured upstream on a reserved address", configured, "198.18.0.1", true],
  ["a configured upstream on a metadata address", configured, "169.254.169.254", false],
  ["a configured upstream on a mapped metadata address", configured, "::ffff:169.254.169.254", false],
  ["a configured upstream on an unspecified address, which is this machine", configured, "0.0.0.0", false],
  ["public to public", fromPublic, "8.8.8.8", true],
  ["public to private", fromPublic, "192.168.0.1", false],
  ["public to mapped private", fromPublic, "::ffff:10.0.0.1", false],
  ["public to loopback", fromPublic, "127.0.0.1", false],
  ["public to metadata", fromPublic, "169.254.169.254", false],
  ["public to reserved", fromPublic, "192.0.2.1", false],
  ["private to private", fromPrivate, "192.168.0.1", true],
  ["private to public", fromPrivate, "8.8.8.8", true],
  ["private to loopback", fromPrivate, "127.0.0.1", false],
  ["private to metadata in the private range", fromPrivate, "fd00:ec2::254", false],
  ["loopback to loopback", fromLoopback, "127.0.0.2", true],
  ["loopback to private", fromLoopback, "10.0.0.5", false],
  ["public to an allowed range", allowing, "10.1.2.3", true],
  ["public to an allowed IPv6 range", allowing, "fd12::1", true],
  ["public to an allowed reserved range", allowing, "198.18.0.1", true],
  ["public beside the allowed range", allowing, "10.2.0.1", false],
  ["metadata in an allowed range", allowing, "169.254.169.254", false],
  ["metadata in an allowed IPv6 range", allowing, "fd00:ec2::254", false],
];

describe("mayDial()", () => {
  test.each(RULES)("[R108, T18] decides on %s", (_, rule, address, expected) => {
    expect(mayDial(address, rule)).toBe(expected);
  });
});

const NAMES: [host: string, expected: boolean][] = [
  ["auth.test", true],
  ["notlocalhost", true],
  ["localhost.test", true],
  ["localhost", false],
  ["LocalHost.", false],
  ["a.localhost", false],
  ["metadata.google.internal", false],
  ["metadata.google.internal.", false],
  ["2130706433", false],
  ["127.0.0.1", false],
  ["[::1]", false],
  ["8.8.8.8", true],
];

describe("mayName()", () => {
  test.each(NAMES)("[R108, T18] judges what an outgoing proxy is told to resolve: %s", (host, expected) => {
    expect(mayName(host, { kind: "derived", from: "public", allow: [] })).toBe(expected);
  });

  test("[R108] lets a configured upstream be the proxy's own machine, but never the metadata service", () => {
    expect(mayName("localhost", { kind: "configured" })).toBe(true);
    expect(mayName("localhost", { kind: "derived", from: "public", allow: ["127.0.0.0/8"] })).toBe(true);
    expect(mayName("metadata.google.internal", { kind: "configured" })).toBe(false);
  });
});

test("[R108] ruleTowards() trusts the upstream's own host as the upstream itself and derives all others", () => {
  const from = { host: "reg.test", rule: configured, kind: "private" } as const;
  expect(ruleTowards("reg.test", from, [])).toEqual(configured);
  expect(ruleTowards("cdn.test", from, ["10.0.0.0/8"])).toEqual({
    kind: "derived",
    from: "private",
    allow: ["10.0.0.0/8"],
  });
});

test("isInRange() compares within one family and takes no unreadable range", () => {
  expect(isInRange("10.1.2.3", "10.0.0.0/8")).toBe(true);
  expect(isInRange("::ffff:10.1.2.3", "10.0.0.0/8")).toBe(true);
  expect(isInRange("fd00::1", "10.0.0.0/8")).toBe(false);
  expect(isInRange("10.1.2.3", "fd00::/8")).toBe(false);
  expect(isInRange("10.1.2.3", "everything")).toBe(false);
});
