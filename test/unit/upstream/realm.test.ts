import { describe, expect, test } from "bun:test";
import { mayReceiveCredentials, parseRealm } from "../../../src/upstream/realm.ts";

const TRUST: [string, string, boolean][] = [
  ["https://registry-1.docker.io", "https://auth.docker.io/token", true],
  ["https://quay.io", "https://quay.io/v2/auth", true],
  ["https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true],
  ["https://reg.example.co.uk", "https://auth.example.co.uk/token", true],
  ["https://reg.example:5000", "https://reg.example:5001/token", true],
  ["https://lscr.io", "https://ghcr.io/token", false],
  ["https://nvcr.io", "https://authn.nvidia.com/token", false],
  ["https://reg.example.co.uk", "https://evil.co.uk/token", false],
  ["https://docker.io", "https://docker.io.evil.com/token", false],
  ["https://docker.io", "https://evildocker.io/token", false],
  // Two tenants of one hosting domain are strangers.
  ["https://ann.github.io", "https://bob.github.io/token", false],
  ["https://a.cloudfront.net", "https://b.cloudfront.net/token", false],
  ["https://10.0.0.5", "https://10.0.0.5:5001/token", true],
  ["https://10.0.0.5", "https://10.0.0.6/token", false],
  ["https://10.0.0.5", "https://0.0.5/token", false],
  ["https://[::1]", "https://[::1]/token", true],
  ["https://[::1]", "https://[::2]/token", false],
  ["http://localhost:5000", "http://localhost:5001/token", true],
  ["http://localhost:5000", "http://127.0.0.1:5001/token", false],
  ["http://localhost:5000", "http://evil.localhost/token", false],
  ["http://registry:5000", "http://registry:5001/token", true],
  ["http://registry:5000", "http://auth:5001/token", false],
];

describe("mayReceiveCredentials()", () => {
  test.each(TRUST)("[R105, R106, T26] for %s to %s: %p", (upstream, realm, expected) => {
    expect(mayReceiveCredentials(new URL(realm), new URL(upstream), [])).toBe(expected);
  });

  test("[R106] takes the operator's word for a host, or for a host and port", () => {
    const upstream = new URL("https://lscr.io");
    const realm = new URL("https://ghcr.io/token");
    expect(mayReceiveCredentials(realm, upstream, ["ghcr.io"])).toBe(true);
    expect(mayReceiveCredentials(realm, upstream, ["GHCR.io"])).toBe(true);
    expect(mayReceiveCredentials(new URL("https://ghcr.io:8443/token"), upstream, ["ghcr.io:8443"])).toBe(true);
    expect(mayReceiveCredentials(realm, upstream, ["ghcr.io:8443"])).toBe(false);
    expect(mayReceiveCredentials(new URL("https://evil.ghcr.io/token"), upstream, ["ghcr.io"])).toBe(false);
  });
});

describe("parseRealm()", () => {
  const https = new URL("https://reg.example");

  test("[R107] refuses plain http for an https upstream, and takes both for an http one", () => {
    expect(() => parseRealm("http://reg.example/token", https)).toThrow("not https");
    expect(parseRealm("http://auth.example/token", new URL("http://reg.example")).href).toBe(
      "http://auth.example/token",
    );
    expect(parseRealm("https://auth.example/token", new URL("http://reg.example")).href).toBe(
      "https://auth.example/token",
    );
  });

  test.each([
    "",
    "/token",
    "token",
    "ftp://reg.example/token",
    "file:///etc/passwd",
    "javascript:1",
    "https://",
    "https://[::1/",
  ])("[R92] refuses %p", (realm) => {
    expect(() => parseRealm(realm, https)).toThrow();
  });

  test("[R93, R248] keeps the query and drops userinfo and fragment", () => {
    expect(parseRealm("https://ann:pw@reg.example/t?x=1#y", https).href).toBe("https://reg.example/t?x=1");
  });
});
