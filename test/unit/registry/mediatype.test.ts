import { expect, test } from "bun:test";
import { bareType, DEFAULT_ACCEPT, isManifestType, isSchema1Type } from "../../../src/registry/mediatype.ts";

test("[R29] DEFAULT_ACCEPT asks for indexes and manifests of both families, and for anything last", () => {
  expect(DEFAULT_ACCEPT.split(", ")).toEqual([
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "*/*",
  ]);
});

test.each([
  ["text/html", "text/html"],
  ["Text/HTML; charset=utf-8", "text/html"],
  ["  application/json ;a=b", "application/json"],
  ["", ""],
  [";", ""],
  [null, ""],
  [undefined, ""],
])("bareType() reads %j as %j", (contentType, expected) => {
  expect(bareType(contentType)).toBe(expected);
});

test.each([
  ["application/vnd.oci.image.index.v1+json", true],
  ["application/vnd.oci.image.manifest.v1+json; charset=utf-8", true],
  ["Application/vnd.docker.distribution.manifest.list.v2+json", true],
  ["application/vnd.docker.distribution.manifest.v2+json", true],
  ["application/vnd.oci.artifact.manifest.v1+json", true],
  ["application/vnd.docker.distribution.manifest.v1+prettyjws", true],
  ["application/vnd.oci.image.config.v1+json", false],
  ["application/json", false],
  ["text/html", false],
  ["", false],
  [null, false],
])("[R22, R23] isManifestType(%j) is %j", (contentType, expected) => {
  expect(isManifestType(contentType)).toBe(expected);
});

test("[R217] isSchema1Type() knows both schema1 types and nothing else", () => {
  const schema1 = "application/vnd.docker.distribution.manifest.v1";
  expect(isSchema1Type(`${schema1}+prettyjws`)).toBe(true);
  expect(isSchema1Type(`${schema1}+json; charset=utf-8`)).toBe(true);
  expect(isSchema1Type("application/vnd.docker.distribution.manifest.v2+json")).toBe(false);
  expect(isSchema1Type("application/vnd.oci.image.manifest.v1+json")).toBe(false);
  expect(isSchema1Type(undefined)).toBe(false);
});
