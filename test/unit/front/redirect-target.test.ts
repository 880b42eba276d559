import { describe, expect, test } from "bun:test";
import { isOurs, originFor } from "../../../src/front/redirect-target.ts";
import type { RedirectTargets } from "../../../src/front/redirect-target.ts";
import { parseHost } from "../../../src/registry/host.ts";
import type { Host } from "../../../src/registry/host.ts";

const targets: RedirectTargets = {
  domainSuffix: "example.com",
  publicUrl: "https://registry.public.test",
  httpsPort: 443,
  certificateNames: ["cert.test", "*.wild.test", "192.0.2.7", "0:0:0:0:0:0:0:1"],
};

function host(text: string): Host {
  return parseHost(text) ?? expect.unreachable();
}

describe("isOurs()", () => {
  test.each([
    ["example.com", true],
    ["ghcr.example.com", true],
    ["a.b.example.com:8080", true],
    ["GHCR.Example.Com", true],
    ["registry.public.test", true],
    ["cert.test", true],
    ["x.wild.test", true],
    ["192.0.2.7:80", true],
    ["[::1]:80", true],
    ["[0:0::1]", true],
    ["evilexample.com", false],
    ["example.com.evil.test", false],
    ["public.test", false],
    ["x.registry.public.test", false],
    ["x.cert.test", false],
    ["wild.test", false],
    ["a.b.wild.test", false],
    ["192.0.2.8", false],
    ["[::2]", false],
    ["localhost", false],
    ["evil.test", false],
  ])("[C28] of %s is %p", (text, expected) => expect(isOurs(host(text), targets)).toBe(expected));

  test("is false without any name of ours", () => {
    const none = { domainSuffix: undefined, publicUrl: undefined, httpsPort: 443, certificateNames: [] };
    expect(isOurs(host("example.com"), none)).toBe(false);
  });
});

describe("originFor()", () => {
  test.each<[string, Partial<RedirectTargets>, string]>([
    ["ghcr.example.com", {}, "https://ghcr.example.com"],
    ["ghcr.example.com:80", {}, "https://ghcr.example.com"],
    ["[::1]:80", { httpsPort: 8443, publicUrl: undefined }, "https://[::1]:8443"],
    ["cert.test:8080", { httpsPort: 8443, publicUrl: undefined }, "https://cert.test:8443"],
    // In front of us a port may be mapped: the public URL knows it.
    ["cert.test", { httpsPort: 8443 }, "https://cert.test"],
    ["cert.test", { publicUrl: "https://registry.public.test:9443" }, "https://cert.test:9443"],
    ["cert.test", { httpsPort: 8443, publicUrl: "http://registry.public.test:9080" }, "https://cert.test:8443"],
  ])("[C28] of %s with %j is %s", (text, change, expected) => {
    expect(originFor(host(text), { ...targets, ...change })).toBe(expected);
  });
});
