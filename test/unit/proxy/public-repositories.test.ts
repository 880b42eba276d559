import { describe, expect, test } from "bun:test";
import { createPublicRepositories } from "../../../src/proxy/public-repositories.ts";
import { registryAt } from "../upstream/fixture.ts";

const ORIGIN = "https://reg.test";
const MIRROR = "https://mirror.test";
const registry = registryAt([ORIGIN, MIRROR]);
const [first, mirror] = registry.upstreams;
const route = { registry, repository: "a/b", requested: "a/b", pathPrefix: "", namespace: undefined };
const manifest = { path: "manifests/latest" };

describe("createPublicRepositories()", () => {
  test("[R246] knows a repository public where a manifest was answered 200, and at no other upstream", () => {
    const repositories = createPublicRepositories();
    expect(repositories.isPublicAt(ORIGIN, route)).toBe(false);
    repositories.answered(route, manifest, { status: 200, upstream: mirror ?? first });
    expect([repositories.isPublicAt(ORIGIN, route), repositories.isPublicAt(MIRROR, route)]).toEqual([false, true]);
    repositories.answered(route, manifest, { status: 200, upstream: first });
    expect(repositories.isPublicAt(ORIGIN, route)).toBe(true);
  });

  test.each([
    [401, "manifests/latest", false],
    [403, "blobs/sha256:00", false],
    [401, "tags/list", true],
    [404, "manifests/none", true],
    [429, "manifests/latest", true],
    [503, "manifests/latest", true],
  ])("[R246] answered %d to nobody's name on %s: public is %p", (status, path, isPublic) => {
    const repositories = createPublicRepositories();
    repositories.answered(route, manifest, { status: 200, upstream: first });
    repositories.answered(route, { path }, { status, upstream: first });
    expect(repositories.isPublicAt(ORIGIN, route)).toBe(isPublic);
  });

  test("[R246] nothing is public at an origin that is none of the registry's", () => {
    expect(createPublicRepositories().isPublicAt("https://other.test", route)).toBe(false);
  });

  test("[R246] a blob, a list or another repository proves nothing", () => {
    const repositories = createPublicRepositories();
    for (const path of ["blobs/sha256:00", "tags/list", "referrers/sha256:00"])
      repositories.answered(route, { path }, { status: 200, upstream: first });
    repositories.answered({ ...route, repository: "a/c" }, manifest, { status: 200, upstream: first });
    expect(repositories.isPublicAt(ORIGIN, route)).toBe(false);
  });
});
