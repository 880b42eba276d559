/**
 * What the Records promise, held against a file, against memory, and with reads remembered; random operations are compared
 * with a simple model.
 */
import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EVERYBODY, openRecords, type ImageRecord, type Place, type Records } from "../../src/cache/records.ts";
import { withRememberedReads } from "../../src/cache/remembered-records.ts";
import { silent } from "../support/http-server.ts";
import { createModel, digestOf } from "../support/records-model.ts";

const HUB: Place = { registry: "https://registry-1.docker.io/", repository: "library/nginx" };
const HUB_OTHER: Place = { registry: "https://registry-1.docker.io/", repository: "library/redis" };
const QUAY: Place = { registry: "https://quay.io/", repository: "library/nginx" };
const INDEX = digestOf(1);
const MANIFEST = digestOf(2);
const LAYER = digestOf(3);
const OTHER = digestOf(4);
const TYPE = "application/vnd.oci.image.manifest.v1+json";

const folders: string[] = [];
const opened: Records[] = [];

afterEach(() => {
  for (const records of opened.splice(0)) records.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function fileInNewFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "layover-records-"));
  folders.push(folder);
  return join(folder, "records.db");
}

/** Its clock stands still: what is remembered is let go for what happens, never for its age. */
function remembering(records: Records): Records {
  return withRememberedReads(records, {}, { now: () => 0 });
}

describe.each([
  ["in a file", fileInNewFolder, (records: Records) => records],
  ["in memory", () => ":memory:", (records: Records) => records],
  ["in a file, reads remembered", fileInNewFolder, remembering],
])("records %s", (_name, place, as) => {
  let clockMs = 1_000_000;

  function open(file = place()): Records {
    const records = as(openRecords({ file }, { log: silent, now: () => (clockMs += 1) }));
    opened.push(records);
    return records;
  }

  function manifest(records: Records, digest: string, at = HUB): void {
    records.link(at, digest, { bytes: 10, mediaType: TYPE });
  }

  function layer(records: Records, digest: string, at = HUB): void {
    records.link(at, digest, { bytes: 1000, mediaType: undefined });
  }

  function setTag(records: Records, tag: string, digest: string, at = HUB): void {
    records.setTag(at, tag, "list", { digest, mediaType: TYPE, bytes: 10, checkedMs: 500 });
  }

  /** One round over what there was at its start. */
  function condemnAll(records: Records): string[] {
    return records.evictionCandidates(1000).flatMap((candidate) => records.condemn(candidate) ?? []);
  }

  describe("links", () => {
    test("[R233, R245, T11] isLinked() is true only for the place that was linked", () => {
      const records = open();
      expect(records.isLinked(HUB, LAYER)).toBe(false);
      layer(records, LAYER);
      expect(records.isLinked(HUB, LAYER)).toBe(true);
      expect(records.isLinked(HUB_OTHER, LAYER)).toBe(false);
      expect(records.isLinked(QUAY, LAYER)).toBe(false);
      expect(records.isLinked(HUB, OTHER)).toBe(false);
    });

    test("[R23] mediaType() is kept per digest and place, and survives a link without one", () => {
      const records = open();
      manifest(records, MANIFEST);
      records.link(QUAY, MANIFEST, { bytes: 10, mediaType: "application/json" });
      expect(records.mediaType(HUB, MANIFEST)).toBe(TYPE);
      expect(records.mediaType(QUAY, MANIFEST)).toBe("application/json");
      expect(records.mediaType(HUB_OTHER, MANIFEST)).toBeUndefined();
      records.link(HUB, MANIFEST, { bytes: 10, mediaType: undefined });
      expect(records.mediaType(HUB, MANIFEST)).toBe(TYPE);
    });

    test("[T10] unlink() takes one place's link and the tags that lead there", () => {
      const records = open();
      for (const at of [HUB, QUAY]) {
        manifest(records, MANIFEST, at);
        setTag(records, "latest", MANIFEST, at);
      }
      setTag(records, "old", OTHER);
      records.unlink(HUB, MANIFEST);
      expect(records.isLinked(HUB, MANIFEST)).toBe(false);
      expect(records.tag(HUB, "latest", "list")).toBeUndefined();
      expect(records.tag(HUB, "old", "list")?.digest).toBe(OTHER);
      expect(records.isLinked(QUAY, MANIFEST)).toBe(true);
      expect(records.tag(QUAY, "latest", "list")?.digest).toBe(MANIFEST);
    });

    test("unlinkAll() takes the links of every place and keeps the content a candidate", () => {
      const records = open();
      manifest(records, MANIFEST, HUB);
      manifest(records, MANIFEST, QUAY);
      setTag(records, "latest", MANIFEST, QUAY);
      records.unlinkAll(MANIFEST);
      expect(records.isLinked(HUB, MANIFEST)).toBe(false);
      expect(records.isLinked(QUAY, MANIFEST)).toBe(false);
      expect(records.tag(QUAY, "latest", "list")).toBeUndefined();
      expect(records.evictionCandidates(10).map(({ digest }) => digest)).toEqual([MANIFEST]);
      expect(records.totals()).toMatchObject({ places: 0, links: 0, tags: 0, contents: 1 });
    });

    test("countPlaces() counts every place and tag once, some places at a time", () => {
      const records = open();
      for (let place = 0; place < 250; place += 1) {
        const one = { ...HUB, repository: `library/app${place}` };
        manifest(records, MANIFEST, one);
        if (place % 2 === 0) setTag(records, "latest", MANIFEST, one);
      }
      const [parts, sum] = [[] as number[], { places: 0, tags: 0 }];
      for (let from: number | undefined = 0; from !== undefined;) {
        const { places, tags, next } = records.countPlaces(from);
        parts.push(places);
        sum.places += places;
        sum.tags += tags;
        from = next;
      }
      expect(sum).toEqual({ places: 250, tags: 125 });
      expect(Math.max(...parts)).toBeLessThanOrEqual(100);
    });

    test("pins() counts what is pinned", () => {
      const records = open();
      expect(records.pins()).toBe(0);
      manifest(records, MANIFEST, HUB);
      records.pin(MANIFEST);
      expect(records.pins()).toBe(1);
    });

    test("unlink() and unlinkAll() do nothing for what is not known", () => {
      const records = open();
      records.unlink(HUB, MANIFEST);
      records.unlinkAll(MANIFEST);
      records.removeTag(HUB, "latest");
      records.forget(MANIFEST);
      records.unpin(MANIFEST);
      expect(records.totals()).toEqual({ places: 0, links: 0, tags: 0, contents: 0, bytes: 0, pinned: 0 });
    });
  });

  describe("tags", () => {
    test("tag() gives what setTag() said, apart per class of Accept, place and case", () => {
      const records = open();
      records.setTag(HUB, "latest", "list", { digest: INDEX, mediaType: TYPE, bytes: 7, checkedMs: 5 });
      records.setTag(HUB, "latest", "single", { digest: MANIFEST, mediaType: undefined, bytes: 8, checkedMs: 6 });
      const list = { digest: INDEX, mediaType: TYPE, bytes: 7, checkedMs: 5, firstSeenMs: 5 };
      const single = { digest: MANIFEST, mediaType: undefined, bytes: 8, checkedMs: 6, firstSeenMs: 6 };
      expect(records.tag(HUB, "latest", "list")).toEqual(list);
      expect(records.tag(HUB, "latest", "single")).toEqual(single);
      expect(records.tag(HUB, "latest", "other")).toBeUndefined();
      expect(records.tag(HUB, "Latest", "list")).toBeUndefined();
      expect(records.tag(QUAY, "latest", "list")).toBeUndefined();
    });

    test("[T25] setTag() keeps firstSeenMs while the digest stays, and the old digest still shows", () => {
      const records = open();
      manifest(records, MANIFEST);
      const facts = { mediaType: TYPE, bytes: 10 };
      records.setTag(HUB, "latest", "list", { ...facts, digest: MANIFEST, checkedMs: 10 });
      records.setTag(HUB, "latest", "list", { ...facts, digest: MANIFEST, checkedMs: 20 });
      expect(records.tag(HUB, "latest", "list")).toMatchObject({ firstSeenMs: 10, checkedMs: 20 });
      records.setTag(HUB, "latest", "list", { ...facts, digest: OTHER, checkedMs: 30 });
      expect(records.tag(HUB, "latest", "list")).toMatchObject({ digest: OTHER, firstSeenMs: 30, checkedMs: 30 });
      expect(records.isLinked(HUB, MANIFEST)).toBe(true);
    });

    test("setTag() writes no link: a tag's digest alone shows nothing", () => {
      const records = open();
      setTag(records, "latest", MANIFEST);
      expect(records.isLinked(HUB, MANIFEST)).toBe(false);
    });

    test("touchTag() changes only when it was checked, of only that class; unknown tags stay unknown", () => {
      const records = open();
      setTag(records, "latest", MANIFEST);
      records.touchTag(HUB, "latest", "list", 900);
      records.touchTag(HUB, "latest", "single", 901);
      records.touchTag(HUB, "none", "list", 902);
      expect(records.tag(HUB, "latest", "list")).toMatchObject({ firstSeenMs: 500, checkedMs: 900 });
      expect(records.tag(HUB, "latest", "single")).toBeUndefined();
      expect(records.tag(HUB, "none", "list")).toBeUndefined();
    });

    test("removeTag() takes every class, and the place with its last row", () => {
      const records = open();
      setTag(records, "latest", MANIFEST);
      records.setTag(HUB, "latest", "single", { digest: OTHER, mediaType: TYPE, bytes: 1, checkedMs: 1 });
      records.removeTag(HUB, "latest");
      expect(records.tag(HUB, "latest", "list")).toBeUndefined();
      expect(records.tag(HUB, "latest", "single")).toBeUndefined();
      expect(records.totals()).toMatchObject({ places: 0, tags: 0 });
    });
  });

  describe("grants", () => {
    test("grant() gives the last proof of its holder until it is dropped", () => {
      const records = open();
      expect(records.grant(HUB, EVERYBODY)).toBeUndefined();
      records.setGrant(HUB, EVERYBODY, { proof: MANIFEST, checkedMs: 5 });
      records.setGrant(HUB, EVERYBODY, { proof: OTHER, checkedMs: 6 });
      records.setGrant(HUB, "ann", { proof: MANIFEST, checkedMs: 7 });
      expect(records.grant(HUB, EVERYBODY)).toEqual({ proof: OTHER, checkedMs: 6 });
      expect(records.grant(QUAY, EVERYBODY)).toBeUndefined();
      expect(records.grant(HUB, "bob")).toBeUndefined();
      records.dropGrant(HUB, EVERYBODY);
      expect(records.grant(HUB, EVERYBODY)).toBeUndefined();
      expect(records.grant(HUB, "ann")).toEqual({ proof: MANIFEST, checkedMs: 7 });
    });

    test("grant() outlives the last link of its repository", () => {
      const records = open();
      layer(records, LAYER);
      records.setGrant(HUB, EVERYBODY, { proof: MANIFEST, checkedMs: 5 });
      records.forget(LAYER);
      expect(records.grant(HUB, EVERYBODY)?.proof).toBe(MANIFEST);
    });
  });

  describe("what goes first", () => {
    test("evictionCandidates() is ordered by last use, oldest first, and never longer than asked", () => {
      const records = open();
      for (const digest of [INDEX, MANIFEST, LAYER]) layer(records, digest);
      records.used(INDEX, clockMs + 1);
      records.used(OTHER, clockMs + 2);
      records.flush();
      expect(records.evictionCandidates(10).map(({ digest }) => digest)).toEqual([MANIFEST, LAYER, INDEX]);
      expect(records.evictionCandidates(2).map(({ digest }) => digest)).toEqual([MANIFEST, LAYER]);
    });

    test("used() never makes content older", () => {
      const records = open();
      layer(records, LAYER);
      layer(records, OTHER);
      records.used(OTHER, 1);
      records.flush();
      expect(records.evictionCandidates(10).map(({ digest }) => digest)).toEqual([LAYER, OTHER]);
    });

    test("condemn() leaves content that was used since it became a candidate, also when that is not written yet", () => {
      const records = open();
      layer(records, LAYER);
      const [candidate] = records.evictionCandidates(1);
      if (candidate === undefined) throw new Error("no candidate");
      records.used(LAYER, clockMs + 5);
      expect(records.condemn(candidate)).toEqual([]);
      expect(records.isLinked(HUB, LAYER)).toBe(true);
    });

    test("condemn() takes the index, then the manifest, then the layers of an unused image", () => {
      const records = open();
      layer(records, LAYER);
      manifest(records, MANIFEST);
      manifest(records, INDEX);
      setTag(records, "latest", INDEX);
      records.setReferences(INDEX, [MANIFEST, digestOf(99)]);
      records.setReferences(MANIFEST, [LAYER]);
      expect([...condemnAll(records), ...condemnAll(records)]).toEqual([INDEX, MANIFEST, LAYER]);
      expect(records.totals()).toEqual({ places: 0, links: 0, tags: 0, contents: 0, bytes: 0, pinned: 0 });
    });

    test("condemn() takes a manifest together with a layer that is as old", () => {
      const records = as(openRecords({ file: place() }, { log: silent, now: () => 7 }));
      opened.push(records);
      layer(records, LAYER);
      manifest(records, MANIFEST);
      records.setReferences(MANIFEST, [LAYER]);
      const [first] = records.evictionCandidates(1);
      expect(first?.digest).toBe(LAYER);
      expect(first && records.condemn(first)).toEqual([MANIFEST, LAYER]);
    });

    test("condemn() keeps a layer as long as one used image needs it", () => {
      const records = open();
      layer(records, LAYER);
      manifest(records, MANIFEST);
      manifest(records, OTHER);
      records.setReferences(MANIFEST, [LAYER]);
      records.setReferences(OTHER, [LAYER]);
      records.used(OTHER, clockMs + 100);
      expect(condemnAll(records)).toEqual([MANIFEST]);
      expect(records.isLinked(HUB, LAYER)).toBe(true);
      expect(records.evictionCandidates(10).map(({ digest }) => digest)).toEqual([OTHER, LAYER].toSorted());
    });

    test("condemn() keeps what is pinned and everything it names, until it is unpinned", () => {
      const records = open();
      layer(records, LAYER);
      manifest(records, MANIFEST);
      manifest(records, INDEX);
      records.setReferences(INDEX, [MANIFEST]);
      records.setReferences(MANIFEST, [LAYER]);
      records.pin(INDEX);
      expect(records.isPinned(INDEX)).toBe(true);
      expect(records.isPinned(MANIFEST)).toBe(false);
      expect([...condemnAll(records), ...condemnAll(records)]).toEqual([]);
      records.unpin(INDEX);
      expect(records.isPinned(INDEX)).toBe(false);
      for (let round = 0; round < 3; round += 1) condemnAll(records);
      expect(records.totals().contents).toBe(0);
    });

    test("condemn() keeps pinned content when the clock stands still", () => {
      const records = as(openRecords({ file: place() }, { log: silent, now: () => 7 }));
      opened.push(records);
      layer(records, LAYER);
      records.pin(LAYER);
      expect(condemnAll(records)).toEqual([]);
    });

    test("condemn() counts what more than a thousand manifests name as needed", () => {
      const records = open();
      layer(records, LAYER);
      for (let number = 100; number < 1102; number += 1) {
        records.adopt({ digest: digestOf(number), bytes: 1 }, 1);
        records.setReferences(digestOf(number), [LAYER]);
      }
      const candidate = records.evictionCandidates(1003).find(({ digest }) => digest === LAYER);
      const known = candidate ?? { digest: LAYER, bytes: 1000, neededMs: clockMs };
      expect(records.condemn(known)).toEqual([]);
      expect(records.isLinked(HUB, LAYER)).toBe(true);
    });

    test("setReferences() replaces what was said before, and keeps the rows of what is named again", () => {
      const records = open();
      layer(records, LAYER);
      layer(records, OTHER);
      manifest(records, MANIFEST);
      records.setReferences(MANIFEST, [LAYER, digestOf(50)]);
      records.setReferences(MANIFEST, [digestOf(50), OTHER]);
      records.used(MANIFEST, clockMs + 100);
      expect(condemnAll(records)).toEqual([LAYER]);
    });

    test("evictionCandidates() brings uses from the future back to now", () => {
      const records = open();
      layer(records, LAYER);
      records.used(LAYER, clockMs + 1_000_000_000);
      records.flush();
      expect(records.evictionCandidates(1)[0]?.neededMs).toBeLessThanOrEqual(clockMs);
    });

    test("adopt() makes unknown content a candidate without a link, and does not touch known content", () => {
      const records = open();
      layer(records, LAYER);
      const [before] = records.evictionCandidates(1);
      records.adopt({ digest: LAYER, bytes: 1000 }, clockMs + 50);
      records.adopt({ digest: OTHER, bytes: 5 }, 3);
      expect(records.evictionCandidates(10)).toEqual([
        { digest: OTHER, bytes: 5, neededMs: 3 },
        before ?? { digest: "", bytes: 0, neededMs: 0 },
      ]);
      expect(records.isLinked(HUB, OTHER)).toBe(false);
    });

    test("learning more about known content is no use of it", () => {
      const records = open();
      layer(records, LAYER);
      layer(records, OTHER);
      records.adopt({ digest: LAYER, bytes: 1001 }, clockMs + 50);
      records.setReferences(LAYER, [digestOf(50)]);
      expect(records.evictionCandidates(10)).toMatchObject([{ digest: LAYER, bytes: 1001 }, { digest: OTHER }]);
    });

    test("forget() takes links, tags and references, and leaves the pin for when the content comes back", () => {
      const records = open();
      manifest(records, MANIFEST);
      setTag(records, "latest", MANIFEST);
      records.setReferences(MANIFEST, [LAYER]);
      records.pin(MANIFEST);
      records.forget(MANIFEST);
      expect(records.isLinked(HUB, MANIFEST)).toBe(false);
      expect(records.tag(HUB, "latest", "list")).toBeUndefined();
      expect(records.isPinned(MANIFEST)).toBe(true);
      expect(records.totals()).toEqual({ places: 0, links: 0, tags: 0, contents: 0, bytes: 0, pinned: 1 });
    });
  });

  describe("images()", () => {
    function fill(records: Records): void {
      for (const at of [QUAY, HUB_OTHER, HUB]) {
        for (const [number, tag] of [
          [10, "b"],
          [11, "a"],
          [10, "latest"],
        ] as const) {
          manifest(records, digestOf(number), at);
          setTag(records, tag, digestOf(number), at);
        }
        manifest(records, digestOf(12), at);
      }
      layer(records, LAYER);
      layer(records, OTHER);
      layer(records, digestOf(14));
      manifest(records, digestOf(13));
      records.setReferences(digestOf(10), [LAYER, OTHER, digestOf(13)]);
      records.setTag(HUB, "a", "single", { digest: digestOf(11), mediaType: TYPE, bytes: 10, checkedMs: 1 });
    }

    test.each([1, 2, 3, 5, 100])("gives each image once, in order, in pages of %d", (limit) => {
      const records = open();
      fill(records);
      const found: ImageRecord[] = [];
      for (;;) {
        const page = records.images({ after: found.at(-1), limit });
        expect(page.length).toBeLessThanOrEqual(limit);
        found.push(...page);
        if (page.length < limit) break;
      }
      const expected = [QUAY, HUB, HUB_OTHER].flatMap((at) => [
        [at.registry, at.repository, undefined, digestOf(12)],
        [at.registry, at.repository, "a", digestOf(11)],
        [at.registry, at.repository, "b", digestOf(10)],
        [at.registry, at.repository, "latest", digestOf(10)],
      ]);
      expect(found.map((image) => [image.place.registry, image.place.repository, image.tag, image.digest])).toEqual(
        expected,
      );
    });

    test("sums up what the image names, each content once", () => {
      const records = open();
      fill(records);
      records.setReferences(digestOf(13), [LAYER]);
      const image = records.images({ limit: 100 }).find(({ tag }) => tag === "latest");
      expect(image?.bytes).toBe(10 + 1000 + 1000 + 10);
    });

    test("says what is pinned and when it was last used, not when it was last needed", () => {
      const records = open();
      manifest(records, MANIFEST);
      setTag(records, "latest", MANIFEST);
      records.pin(MANIFEST);
      const usedMs = clockMs + 10;
      records.used(MANIFEST, usedMs);
      records.flush();
      condemnAll(records);
      expect(records.images({ limit: 1 })).toMatchObject([{ pinned: true, lastUsedMs: usedMs }]);
    });
  });

  test("close() makes everything absent, and nothing throws afterwards but pin() and unpin()", () => {
    const records = open();
    manifest(records, MANIFEST);
    setTag(records, "latest", MANIFEST);
    records.close();
    records.close();
    expect(records.isLinked(HUB, MANIFEST)).toBe(false);
    expect(records.tag(HUB, "latest", "list")).toBeUndefined();
    expect(records.evictionCandidates(1)).toEqual([]);
    expect(records.images({ limit: 1 })).toEqual([]);
    records.link(HUB, MANIFEST, { bytes: 1, mediaType: undefined });
    records.used(MANIFEST, 1);
    records.flush();
    expect(() => records.pin(MANIFEST)).toThrow("records cannot be written now");
  });
});

test.each([
  ["records do", (records: Records) => records],
  ["records whose reads are remembered do", remembering],
])("%s what a simple model does, whatever is asked of them in whatever order", (_what, as) => {
  const number = fc.nat(7);
  const where = fc.constantFrom(HUB, HUB_OTHER, QUAY);
  const tag = fc.constantFrom("latest", "1.0");
  const accept = fc.constantFrom("list", "single");
  const operation = fc.oneof(
    fc.record({ kind: fc.constant("link" as const), where, number, mediaType: fc.constantFrom(undefined, TYPE) }),
    fc.record({ kind: fc.constantFrom("unlink" as const, "unlinkAll" as const), where, number }),
    fc.record({ kind: fc.constant("setTag" as const), where, tag, accept, number }),
    fc.record({ kind: fc.constantFrom("touchTag" as const, "removeTag" as const), where, tag, accept }),
    fc.record({ kind: fc.constantFrom("used" as const, "pin" as const, "unpin" as const), number }),
    fc.record({ kind: fc.constantFrom("adopt" as const, "forget" as const), number }),
    fc.record({ kind: fc.constant("setReferences" as const), number, children: fc.array(number, { maxLength: 4 }) }),
    fc.record({ kind: fc.constantFrom("setGrant" as const, "dropGrant" as const), where, number }),
    fc.record({ kind: fc.constant("condemn" as const), nth: fc.nat(3) }),
  );
  const names = { places: [HUB, HUB_OTHER, QUAY], tags: ["latest", "1.0"], accepts: ["list", "single"] };
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), fc.integer({ min: 1, max: 60 }), (operations, interval) => {
      let stillMs = 1_000;
      const records = as(openRecords({ file: ":memory:" }, { log: silent, now: () => stillMs }));
      const model = createModel(() => stillMs);
      for (const [at, each] of operations.entries()) {
        stillMs += 10;
        model.apply(each, records);
        // Also in between: what was read then must not be what is read at the end.
        if (at % interval === 0) model.compare(records, names);
      }
      model.compare(records, names);
      records.close();
    }),
    { numRuns: 200 },
  );
});
