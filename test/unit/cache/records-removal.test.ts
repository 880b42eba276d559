/** Taking images out of the records by hand: what goes, and what another image still needs. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openRecords, type Place, type Records } from "../../../src/cache/records.ts";
import { silent } from "../../support/http-server.ts";
import { digestOf } from "../../support/records-model.ts";

const HERE: Place = { registry: "https://quay.io/", repository: "org/app" };
const THERE: Place = { registry: "https://quay.io/", repository: "org/other" };
const TYPE = "application/vnd.oci.image.manifest.v1+json";
const [INDEX, AMD, ARM, SHARED, OWN, SECOND] = [1, 2, 3, 4, 5, 6].map(digestOf) as [
  string,
  string,
  string,
  string,
  string,
  string,
];

let records: Records;
beforeEach(() => {
  let nowMs = 1000;
  records = openRecords({ file: ":memory:" }, { log: silent, now: () => (nowMs += 1) });
});
afterEach(() => records.close());

function image(place: Place, digest: string, children: readonly string[]): void {
  records.link(place, digest, { bytes: 10, mediaType: TYPE });
  records.setReferences(digest, children);
  for (const child of children) records.link(place, child, { bytes: 100, mediaType: undefined });
}

function tag(place: Place, name: string, digest: string, accept = "all"): void {
  records.setTag(place, name, accept, { digest, mediaType: TYPE, bytes: 10, checkedMs: 1 });
}

describe("takeOutTag()", () => {
  test("takes an index with everything below it, from above", () => {
    image(HERE, INDEX, [AMD, ARM]);
    image(HERE, AMD, [SHARED]);
    image(HERE, ARM, [SHARED, OWN]);
    tag(HERE, "latest", INDEX);
    const doomed = records.takeOutTag(HERE, "latest");
    expect(doomed.toSorted()).toEqual([INDEX, AMD, ARM, SHARED, OWN].toSorted());
    expect(doomed[0]).toBe(INDEX);
    expect(records.images({ limit: 10 })).toEqual([]);
    expect(records.totals()).toMatchObject({ links: 0, tags: 0, contents: 0 });
  });

  test("[T10] leaves what another repository has", () => {
    image(HERE, AMD, [SHARED, OWN]);
    image(THERE, ARM, [SHARED]);
    tag(HERE, "latest", AMD);
    expect(records.takeOutTag(HERE, "latest")).toEqual([AMD, OWN]);
    expect([records.isLinked(HERE, SHARED), records.isLinked(THERE, SHARED)]).toEqual([false, true]);
  });

  test("[T10] leaves what another tag of the repository leads to or names", () => {
    image(HERE, INDEX, [AMD]);
    image(HERE, AMD, [SHARED]);
    for (const [name, digest] of [
      ["v1", INDEX],
      ["v1-amd64", AMD],
      ["v1.0", INDEX],
    ] as const)
      tag(HERE, name, digest);
    expect(records.takeOutTag(HERE, "v1")).toEqual([]);
    expect(records.takeOutTag(HERE, "v1-amd64")).toEqual([]);
    expect(records.isLinked(HERE, AMD)).toBe(true); // the index names it
    expect(records.takeOutTag(HERE, "v1.0")).toEqual([INDEX, AMD, SHARED]);
  });

  test("takes every class of Accept, and leaves what is pinned with what it names", () => {
    image(HERE, AMD, [OWN]);
    image(HERE, SECOND, [SHARED]);
    tag(HERE, "latest", AMD, "one");
    tag(HERE, "latest", SECOND, "two");
    records.pin(SECOND);
    expect(records.tagged(HERE, "latest").toSorted()).toEqual([AMD, SECOND].toSorted());
    expect(records.takeOutTag(HERE, "latest")).toEqual([AMD, OWN]);
    expect(records.tagged(HERE, "latest")).toEqual([]);
    expect(records.isPinned(SECOND)).toBe(true);
  });

  test("does nothing for a tag that is not there", () => {
    expect(records.takeOutTag(HERE, "latest")).toEqual([]);
  });
});

describe("takeOut()", () => {
  test("takes an image out of every repository without a place, out of one with it", () => {
    for (const place of [HERE, THERE]) {
      image(place, AMD, [SHARED]);
      tag(place, "latest", AMD);
    }
    expect(records.takeOut(AMD, HERE)).toEqual([]);
    expect([records.isLinked(HERE, AMD), records.isLinked(THERE, AMD)]).toEqual([false, true]);
    expect(records.takeOut(AMD, undefined)).toEqual([AMD, SHARED]);
  });

  test("namedBy() tells what still needs a digest", () => {
    image(HERE, AMD, [SHARED]);
    expect(records.namedBy(SHARED)).toEqual([AMD]);
    expect(records.namedBy(AMD)).toEqual([]);
    records.takeOut(AMD, undefined);
    expect(records.namedBy(SHARED)).toEqual([]);
  });
});
