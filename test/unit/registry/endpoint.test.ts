import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { RegistryError } from "../../../src/errors.ts";
import { parseEndpoint, RESERVED_COMPONENTS } from "../../../src/registry/endpoint.ts";
import { referenceText } from "../../../src/registry/reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

/** What was read, on one line: `<kind> <name> <reference, digest or session>`, with the place it was found in front. */
function read(path: string): string | undefined {
  const endpoint = parseEndpoint(path);
  if (endpoint === undefined) return undefined;
  const place = endpoint.before === undefined ? "" : `${endpoint.raw ? "raw " : ""}${endpoint.before} | `;
  const name = "name" in endpoint ? ` ${endpoint.name}` : "";
  return `${place}${endpoint.kind}${name}${partOf(endpoint)}`;
}

function partOf(endpoint: NonNullable<ReturnType<typeof parseEndpoint>>): string {
  if ("reference" in endpoint) return ` ${referenceText(endpoint.reference)}`;
  if ("digest" in endpoint) return ` ${endpoint.digest.text}`;
  return "session" in endpoint ? ` ${endpoint.session ?? "(new)"}` : "";
}

/** `"400 NAME_INVALID"` of what it throws, else what it read. */
function verdict(path: string): string | undefined {
  try {
    return read(path);
  } catch (error) {
    if (error instanceof RegistryError) return `${error.status} ${error.code}`;
    throw error;
  }
}

describe("parseEndpoint()", () => {
  test.each([
    ["/v2", "ping"],
    ["/v2/", "ping"],
    ["/quay/v2", "quay | ping"],
    ["/quay/v2/", "quay | ping"],
    ["/quay.io/v2/", "quay.io | ping"],
    ["/[::1]:5000/v2/", "[::1]:5000 | ping"],
  ])("[R4] reads %s as a ping", (path, expected) => {
    expect(read(path)).toBe(expected);
  });

  test.each([
    ["/v2/library/nginx/manifests/latest", "manifest library/nginx latest"],
    [`/v2/nginx/manifests/${digest}`, `manifest nginx ${digest}`],
    [`/v2/a/b/c/blobs/${digest}`, `blob a/b/c ${digest}`],
    ["/v2/a/b/tags/list", "tags a/b"],
    [`/v2/a/referrers/${digest}`, `referrers a ${digest}`],
    ["/v2/a/blobs/uploads", "upload a (new)"],
    ["/v2/a/blobs/uploads/", "upload a (new)"],
    ["/v2/a/b/blobs/uploads/d2a1-_.=x", "upload a/b d2a1-_.=x"],
    ["/v2/_catalog", "catalog"],
    ["/quay/v2/_catalog", "quay | catalog"],
  ])("[R13, R36] reads %s", (path, expected) => {
    expect(read(path)).toBe(expected);
  });

  test.each([
    ["/v2/foo/manifests/bar/manifests/latest", "manifest foo/manifests/bar latest"],
    ["/v2/manifests/manifests/manifests", "manifest manifests manifests"],
    [`/v2/blobs/blobs/${digest}`, `blob blobs ${digest}`],
    ["/v2/tags/list/tags/list", "tags tags/list"],
    ["/v2/a/blobs/uploads/tags/list", "tags a/blobs/uploads"],
    ["/v2/a/blobs/uploads/manifests/latest", "manifest a/blobs/uploads latest"],
    ["/v2/a/manifests/blobs/uploads/x", "upload a/manifests x"],
    ["/v2/a/blobs/uploads/list", "upload a list"],
    ["/v2/a/tags/manifests/list", "manifest a/tags list"],
    [`/v2/a/referrers/referrers/${digest}`, `referrers a/referrers ${digest}`],
    ["/v2/v2/manifests/latest", "manifest v2 latest"],
    ["/v2/quay/v2/foo/manifests/latest", "manifest quay/v2/foo latest"],
    ["/quay/v2/v2/x/manifests/latest", "quay | manifest v2/x latest"],
    ["/v2/auth/manifests/latest", "manifest auth latest"],
  ])("[R15] reads %s from the right", (path, expected) => {
    expect(read(path)).toBe(expected);
  });

  test.each([
    ["/v2/quay.io/org/app/manifests/x", "manifest quay.io/org/app x"],
    ["/v2/reg.example:5000/a/b/tags/list", "tags reg.example:5000/a/b"],
    ["/v2/localhost:5000/a/manifests/x", "manifest localhost:5000/a x"],
    ["/v2/[::1]:5000/a/manifests/x", "manifest [::1]:5000/a x"],
    ["/v2/GHCR.io/org/app/manifests/x", "manifest GHCR.io/org/app x"],
    ["/v2/quay.io/manifests/x", "manifest quay.io x"],
  ])("[R16, R17, R190] takes a host for the first component of a name: %s", (path, expected) => {
    expect(read(path)).toBe(expected);
  });

  test.each([
    ["/quay/v2/org/app/manifests/x", "quay | manifest org/app x"],
    [`/ghcr.io/v2/org/app/blobs/${digest}`, `ghcr.io | blob org/app ${digest}`],
    ["/reg.example:5000/v2/a/tags/list", "reg.example:5000 | tags a"],
    ["/localhost/v2/a/manifests/x", "localhost | manifest a x"],
    ["/docker/library/ubuntu/manifests/x", "raw docker | manifest library/ubuntu x"],
    [`/quay.io/a/blobs/${digest}`, `raw quay.io | blob a ${digest}`],
    ["/docker/a/tags/list", "raw docker | tags a"],
    [`/docker/a/referrers/${digest}`, `raw docker | referrers a ${digest}`],
  ])("[R171, R190, C8] finds the registry before it: %s", (path, expected) => {
    expect(read(path)).toBe(expected);
  });

  test.each([
    "",
    "/",
    "//",
    "v2/a/manifests/x",
    "/healthz",
    "/docs/x",
    "/favicon.ico",
    "/token/ghcr",
    "/v2/auth",
    "/auth/token",
    "/v1/search",
    "/foo",
    "/foo/bar",
    "/foo/manifests/latest",
    "/foo/bar/tags/other",
    "/foo/bar/manifests/",
    "/.well-known/v2/a/manifests/x",
    "/a_b/v2/",
    "/-a/v2/",
    "/u@quay.io/v2/a/manifests/x",
    "/quay.io%3A443/v2/a/manifests/x",
    "/[fe80::1%25eth0]/v2/",
    "*",
    "http://quay.io/v2/",
  ])("knows %j for no registry path", (path) => {
    expect(read(path)).toBeUndefined();
  });

  test.each([...RESERVED_COMPONENTS].filter((component) => component !== "v2"))(
    "never takes our own path %s for a registry",
    (component) => {
      expect(read(`/${component}/v2/a/manifests/x`)).toBeUndefined();
      expect(read(`/${component}/a/manifests/x`)).toBeUndefined();
    },
  );

  test.each(["/V2/", "/V2", "/V2/a/manifests/x", "/Quay/v2/a/manifests/x"])("[R253] %s is not ours", (path) => {
    expect(read(path)).toBeUndefined();
  });

  test.each([
    ["/v2/a/manifests/latest/", "404 MANIFEST_UNKNOWN"],
    [`/v2/a/blobs/${digest}/`, "404 BLOB_UNKNOWN"],
    ["/v2/a/tags/list/", "404 NAME_UNKNOWN"],
    [`/v2/a/referrers/${digest}/`, "404 MANIFEST_UNKNOWN"],
    ["/v2/a/blobs/uploads/x/", "404 UNSUPPORTED"],
    ["/v2/a/manifests/", "404 UNSUPPORTED"],
  ])("[R35, R253] answers a slash at the end, %s, with %s", (path, expected) => {
    expect(verdict(path)).toBe(expected);
  });

  test.each([
    "/v2/a..b/manifests/x",
    "/v2/A/manifests/x",
    "/v2/library/Nginx/manifests/x",
    "/v2/quay.io/Org/app/manifests/x",
    "/v2/a//b/manifests/x",
    "/v2//manifests/x",
    "/v2/quay.io//a/manifests/x",
    "/v2/a/../b/manifests/x",
    "/v2/quay.io%3A443/a/manifests/x",
    "/v2/a%2Fb/manifests/x",
    "/v2/a:b/c:d/manifests/x",
    "/v2/localhost:5000/manifests/x",
    "/v2/u@quay.io/a/manifests/x",
    "/v2/-a/tags/list",
    "/v2/a_/blobs/uploads/",
    `/v2/_a/referrers/${digest}`,
    "/v2/é/manifests/x",
    "/quay/v2/A/manifests/x",
  ])("[R7, R252] refuses the name in %s", (path) => {
    expect(verdict(path)).toBe("400 NAME_INVALID");
  });

  test("[R8] refuses a name of 256 characters, host aside", () => {
    expect(verdict(`/v2/${"a".repeat(256)}/manifests/x`)).toBe("400 NAME_INVALID");
    expect(verdict(`/v2/reg.example:5000/${"a".repeat(255)}/manifests/x`)).toStartWith("manifest reg.example");
    expect(verdict(`/v2/reg.example:5000/${"a".repeat(256)}/manifests/x`)).toBe("400 NAME_INVALID");
  });

  test.each([
    ["/v2/a/manifests/.x", "400 TAG_INVALID"],
    ["/v2/a/manifests/-", "400 TAG_INVALID"],
    ["/v2/a/manifests/x%41", "400 TAG_INVALID"],
    ["/v2/a/manifests/a+b", "400 TAG_INVALID"],
    ["/v2/a/manifests/sha256:baddigeststring", "400 DIGEST_INVALID"],
    ["/v2/a/manifests/a:b:c", "400 DIGEST_INVALID"],
    ["/v2/a/blobs/sha256:baddigeststring", "400 DIGEST_INVALID"],
    ["/v2/a/blobs/latest", "400 DIGEST_INVALID"],
    [`/v2/a/blobs/${digest.toUpperCase()}`, "400 DIGEST_INVALID"],
    [`/v2/a/blobs/sha256:${"A".repeat(64)}`, "400 DIGEST_INVALID"],
    ["/v2/a/referrers/latest", "400 DIGEST_INVALID"],
    ["/v2/a/blobs/uploads/x y", "404 BLOB_UPLOAD_INVALID"],
  ])("[R9, R10, R12, R13, R14] answers %s with %s", (path, expected) => {
    expect(verdict(path)).toBe(expected);
  });

  test("[R9] refuses a tag of 129 characters", () => {
    expect(verdict(`/v2/a/manifests/${"x".repeat(128)}`)).toStartWith("manifest a x");
    expect(verdict(`/v2/a/manifests/${"x".repeat(129)}`)).toBe("400 TAG_INVALID");
  });

  test("[R252] decodes %3A in references, in either case, and nowhere else", () => {
    const hex = "a".repeat(64);
    expect(read(`/v2/a/manifests/sha256%3A${hex}`)).toBe(`manifest a ${digest}`);
    expect(read(`/v2/a/blobs/sha256%3a${hex}`)).toBe(`blob a ${digest}`);
    expect(read(`/v2/a/referrers/sha256%3A${hex}`)).toBe(`referrers a ${digest}`);
    expect(verdict(`/v2/localhost%3A5000/a/manifests/x`)).toBe("400 NAME_INVALID");
    expect(verdict(`/v2/a/manifests/sha256%253A${hex}`)).toBe("400 TAG_INVALID");
  });

  test.each([
    "/v2/foo",
    "/v2/foo/bar",
    "/v2//",
    "/v2/manifests/latest",
    "/v2/tags/list",
    "/v2/blobs/uploads/",
    "/v2/foo/tags",
    "/v2/foo/tags/other",
    "/v2/foo/bar/uploads/x",
    "/v2/_oci/ext/discover",
    "/v2/foo/_oci/ext/discover",
    "/v2/_catalog/",
    "/v2/quay/_catalog",
    "/v2/auth/",
    "/quay/v2/foo",
  ])("[R36] answers %s, which is nothing the API has, with a 404", (path) => {
    expect(verdict(path)).toBe("404 UNSUPPORTED");
  });

  test("[R12, T29] throws nothing but a RegistryError, and names nothing outside the grammar, whatever comes", () => {
    const component = fc.oneof(
      fc.constantFrom(
        "v2",
        "manifests",
        "blobs",
        "tags",
        "list",
        "uploads",
        "referrers",
        "quay",
        "quay.io",
        "a",
        "",
        digest,
      ),
      fc.string({ unit: fc.constantFrom(..."aZ0._-:[]%3A@ \0é"), maxLength: 6 }),
    );
    const path = fc.array(component, { maxLength: 8 }).map((components) => `/${components.join("/")}`);
    fc.assert(
      fc.property(fc.oneof(path, fc.string()), (text) => {
        const result = verdict(text);
        if (result === undefined || /^4\d\d [A-Z_]+$/.test(result)) return;
        expect(result).toMatch(/^[a-zA-Z0-9._:[\]/=~()| -]+$/);
      }),
      { numRuns: 5000 },
    );
  });
});
