import { describe, expect, test } from "bun:test";
import type { RegistryRequest } from "../../../src/proxy/access.ts";
import { createAcceptClasses } from "../../../src/proxy/manifest-facts.ts";
import { DEFAULT_ACCEPT } from "../../../src/registry/mediatype.ts";

const INDEX = "application/vnd.oci.image.index.v1+json";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

function asking(accept: string | undefined): RegistryRequest {
  const headers = new Headers(accept === undefined ? {} : { accept });
  // Nothing else of a request is read here.
  return { exchange: { headers } } as RegistryRequest;
}

describe("createAcceptClasses()", () => {
  test.each([
    ["in another order", `${MANIFEST}, ${INDEX}`, `${INDEX} ${MANIFEST}`],
    ["with what is no manifest", `${INDEX};q=0.9, */*, ${MANIFEST}`, `${INDEX} ${MANIFEST}`],
    ["of one kind", MANIFEST, MANIFEST],
    ["longer than what is remembered", `${MANIFEST}${", */*".repeat(500)}`, MANIFEST],
  ])("a line %s gives its kinds of manifest in one order, each time", (_, accept, kinds) => {
    const acceptClass = createAcceptClasses();
    expect([acceptClass(asking(accept)), acceptClass(asking(accept))]).toEqual([kinds, kinds]);
  });

  test("no line, an empty one and one without manifests mean what is asked for by default", () => {
    const acceptClass = createAcceptClasses();
    const byDefault = acceptClass(asking(DEFAULT_ACCEPT));
    for (const accept of [undefined, "", "*/*", "text/html"]) expect(acceptClass(asking(accept))).toBe(byDefault);
  });

  test("many lines of one client do not change what others mean", () => {
    const acceptClass = createAcceptClasses();
    for (let i = 0; i < 1000; i += 1) acceptClass(asking(`${INDEX};x=${i}`));
    expect(acceptClass(asking(MANIFEST))).toBe(MANIFEST);
  });
});
