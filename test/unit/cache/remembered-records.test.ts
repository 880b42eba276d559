import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { EVERYBODY, openRecords, type Place, type Records } from "../../../src/cache/records.ts";
import { withRememberedReads } from "../../../src/cache/remembered-records.ts";
import { silent } from "../../support/http-server.ts";
import { digestOf } from "../../support/records-model.ts";
import { createTempDir } from "../../support/temp-dir.ts";

const PLACE: Place = { registry: "https://quay.io/", repository: "org/app" };
const DIGEST = digestOf(1);
const TYPE = "application/vnd.oci.image.manifest.v1+json";
const FACTS = { bytes: 10, mediaType: TYPE };
const GRANT = { proof: DIGEST, checkedMs: 1 };

const opened: Records[] = [];

afterEach(() => {
  for (const records of opened.splice(0)) records.close();
});

function open(file: string): Records {
  const records = openRecords({ file }, { log: silent, now: Date.now });
  opened.push(records);
  return records;
}

/** Counts what reaches the records below. */
function fixture(file = ":memory:", maxAnswers = 100) {
  const below = open(file);
  const asked = { reads: 0, looks: 0 };
  const counting: Records = {
    ...below,
    isLinked: (place, digest) => ((asked.reads += 1), below.isLinked(place, digest)),
    mediaType: (place, digest) => ((asked.reads += 1), below.mediaType(place, digest)),
    tag: (place, tag, accept) => ((asked.reads += 1), below.tag(place, tag, accept)),
    grant: (place, holder) => ((asked.reads += 1), below.grant(place, holder)),
    foreignChanges: () => ((asked.looks += 1), below.foreignChanges()),
  };
  let nowMs = 0;
  const records = withRememberedReads(counting, { maxAnswers }, { now: () => nowMs });
  return { records, asked, pass: (ms: number) => void (nowMs += ms) };
}

function fill(records: Records): void {
  records.link(PLACE, DIGEST, FACTS);
  records.setTag(PLACE, "latest", "list", { ...FACTS, digest: DIGEST, checkedMs: 1 });
  records.setGrant(PLACE, EVERYBODY, GRANT);
}

/** What a pull asks. */
function readAll(records: Records): readonly unknown[] {
  return [
    records.isLinked(PLACE, DIGEST),
    records.mediaType(PLACE, DIGEST),
    records.tag(PLACE, "latest", "list")?.digest,
    records.grant(PLACE, EVERYBODY)?.proof,
  ];
}

const ALL = [true, TYPE, DIGEST, DIGEST];

describe("withRememberedReads()", () => {
  test("each question is asked below once, also where the answer is that there is nothing", () => {
    const { records, asked } = fixture();
    fill(records);
    for (let turn = 0; turn < 5; turn += 1) {
      expect(readAll(records)).toEqual(ALL);
      expect(records.grant(PLACE, "own alice")).toBeUndefined();
    }
    expect(asked).toEqual({ reads: 5, looks: 1 });
  });

  test.each<[string, (records: Records) => unknown, readonly unknown[]]>([
    ["dropGrant", (records) => records.dropGrant(PLACE, EVERYBODY), [true, TYPE, DIGEST, undefined]],
    ["removeTag", (records) => records.removeTag(PLACE, "latest"), [true, TYPE, undefined, DIGEST]],
    ["unlink", (records) => records.unlink(PLACE, DIGEST), [false, undefined, undefined, DIGEST]],
    ["unlinkAll", (records) => records.unlinkAll(DIGEST), [false, undefined, undefined, DIGEST]],
    ["forget", (records) => records.forget(DIGEST), [false, undefined, undefined, DIGEST]],
    ["takeOut", (records) => records.takeOut(DIGEST, PLACE), [false, undefined, undefined, DIGEST]],
    ["takeOutTag", (records) => records.takeOutTag(PLACE, "latest"), [false, undefined, undefined, DIGEST]],
    ["close", (records) => records.close(), [false, undefined, undefined, undefined]],
  ])("what %s() takes back is not answered once more", (_name, withdraw, left) => {
    const { records } = fixture();
    fill(records);
    expect(readAll(records)).toEqual(ALL);
    withdraw(records);
    expect(readAll(records)).toEqual([...left]);
  });

  test("condemn() hides what was remembered", () => {
    const { records } = fixture();
    fill(records);
    expect(readAll(records)).toEqual(ALL);
    for (const candidate of records.evictionCandidates(10)) records.condemn(candidate);
    expect(readAll(records)).toEqual([false, undefined, undefined, DIGEST]);
  });

  test("what another process takes back is hidden after a quarter of a second at most", async () => {
    await using dir = await createTempDir();
    const file = dir.file("records.db");
    const { records, asked, pass } = fixture(file);
    fill(records);
    const other = open(file);
    expect(readAll(records)).toEqual(ALL);
    other.dropGrant(PLACE, EVERYBODY);
    other.unlink(PLACE, DIGEST);
    pass(249);
    expect(readAll(records)).toEqual(ALL);
    pass(1);
    expect(readAll(records)).toEqual([false, undefined, undefined, undefined]);
    expect(asked).toEqual({ reads: 8, looks: 2 });
  });

  test("a look that shows nothing new lets nothing go", () => {
    const { records, asked, pass } = fixture();
    fill(records);
    for (let turn = 0; turn < 5; turn += 1) {
      expect(readAll(records)).toEqual(ALL);
      pass(250);
    }
    expect(asked).toEqual({ reads: 4, looks: 5 });
  });

  test("a withdrawal that waits for the file hides what was remembered", async () => {
    await using dir = await createTempDir();
    const file = dir.file("records.db");
    const { records } = fixture(file);
    fill(records);
    expect(readAll(records)).toEqual(ALL);
    const holder = new Database(file);
    holder.run("BEGIN IMMEDIATE");
    records.dropGrant(PLACE, EVERYBODY);
    expect(readAll(records)).toEqual([true, TYPE, DIGEST, undefined]);
    records.unlink(PLACE, DIGEST); // not even tried: the file rests
    expect(readAll(records)).toEqual([false, undefined, undefined, undefined]);
    holder.run("ROLLBACK");
    holder.close();
    records.flush();
    expect(records.grant(PLACE, EVERYBODY)).toBeUndefined();
    records.setGrant(PLACE, EVERYBODY, GRANT);
    expect(records.grant(PLACE, EVERYBODY)).toEqual(GRANT);
  });

  test("a read that failed is not remembered", () => {
    const below = open(":memory:");
    let failures = 1;
    let changes = 0;
    const failing: Records = {
      ...below,
      changes: () => changes,
      isLinked() {
        if (failures === 0) return true;
        failures -= 1;
        changes += 1;
        return false;
      },
    };
    const records = withRememberedReads(failing, {}, { now: () => 0 });
    expect(records.isLinked(PLACE, DIGEST)).toBe(false);
    expect(records.isLinked(PLACE, DIGEST)).toBe(true);
  });

  test("nothing is remembered while the file cannot be looked at", () => {
    const below = open(":memory:");
    let isBusy = false;
    let isLinked = true;
    const records = withRememberedReads(
      { ...below, isLinked: () => isLinked, foreignChanges: () => (isBusy ? undefined : 1) },
      {},
      { now: () => (nowMs += 250) },
    );
    let nowMs = 0;
    expect(records.isLinked(PLACE, DIGEST)).toBe(true);
    isLinked = false;
    expect(records.isLinked(PLACE, DIGEST)).toBe(true);
    isBusy = true;
    expect(records.isLinked(PLACE, DIGEST)).toBe(false);
    isLinked = true;
    expect(records.isLinked(PLACE, DIGEST)).toBe(true);
  });

  test("of each kind so many answers are kept and no more", () => {
    const { records, asked } = fixture(":memory:", 2);
    for (const number of [1, 2, 3, 1, 3]) records.isLinked(PLACE, digestOf(number));
    expect(asked.reads).toBe(4);
  });
});
