/** The file of the Records in bad times: damaged, busy, deleted, shared; and how fast it is with many rows. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { EVERYBODY, openRecords, type Records, recordsFileNames } from "../../../src/cache/records.ts";
import { createLog, type Log } from "../../../src/log.ts";
import { silent } from "../../support/http-server.ts";
import { digestOf } from "../../support/records-model.ts";
import { createTempDir } from "../../support/temp-dir.ts";

const PLACE = { registry: "https://registry-1.docker.io/", repository: "library/nginx" };
const DIGEST = digestOf(1);
const FACTS = { bytes: 10, mediaType: "application/json" };

function open(file: string, log: Log = silent, maxRows?: number): Records {
  return openRecords(maxRows === undefined ? { file } : { file, maxRows }, { log, now: Date.now });
}

function collectedLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  return { lines, log: createLog({ level: "warn", format: "json" }, { destination }) };
}

/** Another connection that holds the write lock until it is told. */
function lock(file: string): { release(): void } {
  const other = new Database(file);
  other.run("BEGIN IMMEDIATE");
  return {
    release() {
      other.run("COMMIT");
      other.close(true);
    },
  };
}

test("openRecords() finds again what was written", async () => {
  await using dir = await createTempDir();
  const first = open(dir.file("records.db"));
  first.link(PLACE, DIGEST, FACTS);
  first.setTag(PLACE, "latest", "list", { ...FACTS, digest: DIGEST, checkedMs: 7 });
  first.used(DIGEST, Date.now() + 1000);
  first.pin(DIGEST);
  first.setGrant(PLACE, EVERYBODY, { proof: DIGEST, checkedMs: 8 });
  first.close();
  const second = open(dir.file("records.db"));
  expect(second.mediaType(PLACE, DIGEST)).toBe("application/json");
  expect(second.tag(PLACE, "latest", "list")).toMatchObject({ digest: DIGEST, firstSeenMs: 7, checkedMs: 7 });
  expect(second.isPinned(DIGEST)).toBe(true);
  expect(second.grant(PLACE, EVERYBODY)).toEqual({ proof: DIGEST, checkedMs: 8 });
  second.close();
  expect(readdirSync(dir.path)).toEqual(["records.db"]);
});

test("openRecords() leaves no row behind when everything was forgotten", async () => {
  await using dir = await createTempDir();
  const records = open(dir.file("records.db"));
  for (const number of [1, 2, 3]) records.link(PLACE, digestOf(number), FACTS);
  records.setTag(PLACE, "latest", "list", { ...FACTS, digest: DIGEST, checkedMs: 7 });
  records.setReferences(DIGEST, [2, 3, 4, 5].map(digestOf));
  records.setGrant(PLACE, EVERYBODY, { proof: DIGEST, checkedMs: 8 });
  records.pin(digestOf(9));
  records.unpin(digestOf(9));
  records.dropGrant(PLACE, EVERYBODY);
  for (const number of [3, 1, 2]) records.forget(digestOf(number));
  records.close();
  const database = new Database(dir.file("records.db"), { readonly: true });
  for (const table of ["place", "content", "link", "tag", "reference", "grants"]) {
    expect(database.query(`SELECT count(*) AS rows FROM ${table}`).get()).toEqual({ rows: 0 });
  }
  expect(database.query("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  database.close();
});

test.each([
  ["text", (file: string) => writeFileSync(file, "this is no database\n".repeat(500))],
  ["a newer version", (file: string) => new Database(file, { create: true }).run("PRAGMA user_version = 99")],
  [
    "another program's tables",
    (file: string) =>
      new Database(file, { create: true }).run("CREATE TABLE place (id TEXT); INSERT INTO place VALUES (1)"),
  ],
  [
    "half of its pages",
    async (file: string) => {
      const records = open(file);
      for (let number = 0; number < 500; number += 1) records.link(PLACE, digestOf(number), FACTS);
      await records.settled(); // a log that is left would put the pages back
      records.close();
      truncateSync(file, 4096);
    },
  ],
])("openRecords() moves a file aside that holds %s, and says so once", async (_what, damage) => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  await damage(file);
  const { log, lines } = collectedLog();
  const records = open(file, log);
  // Some damage shows only when it is read; then this write is lost and the next one is not.
  records.link(PLACE, DIGEST, FACTS);
  records.link(PLACE, DIGEST, FACTS);
  expect(records.isLinked(PLACE, DIGEST)).toBe(true);
  expect(existsSync(`${file}.damaged`)).toBe(true);
  expect(lines.filter((line) => line.includes("moved aside"))).toHaveLength(1);
  const names = recordsFileNames("records.db");
  expect(readdirSync(dir.path).filter((name) => !names.includes(name))).toEqual([]);
  records.close();
  expect(open(file).isLinked(PLACE, DIGEST)).toBe(true);
});

test("openRecords() begins a fresh file when pages are overwritten while it is open", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const before = open(file);
  for (let number = 0; number < 500; number += 1) before.link(PLACE, digestOf(number), FACTS);
  before.close();
  const { log, lines } = collectedLog();
  const records = open(file, log);
  writeFileSync(file, Buffer.alloc(200_000, "x"), { flag: "r+" });
  for (let number = 0; number < 20; number += 1) {
    records.isLinked(PLACE, digestOf(number * 20));
    records.link(PLACE, DIGEST, FACTS);
  }
  expect(records.isLinked(PLACE, DIGEST)).toBe(true);
  expect(lines.length).toBeLessThanOrEqual(2);
  records.close();
});

test.each([
  ["a folder stands in its place", (file: string) => mkdirSync(file)],
  ["its folder is missing", (file: string) => rmSync(dirname(file), { recursive: true })],
])("openRecords() keeps records in memory when %s", async (_why, prepare) => {
  await using dir = await createTempDir();
  const folder = dir.file("sub");
  mkdirSync(folder);
  const file = `${folder}/records.db`;
  prepare(file);
  const { log, lines } = collectedLog();
  const records = open(file, log);
  records.link(PLACE, DIGEST, FACTS);
  expect(records.isLinked(PLACE, DIGEST)).toBe(true);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain("in memory");
  records.close();
});

test("records go on when the file is deleted while open, and are fresh at the next start", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const records = open(file);
  records.link(PLACE, DIGEST, FACTS);
  for (const name of readdirSync(dir.path)) rmSync(dir.file(name));
  records.link(PLACE, digestOf(2), FACTS);
  expect(records.isLinked(PLACE, DIGEST)).toBe(true);
  expect(records.isLinked(PLACE, digestOf(2))).toBe(true);
  records.close();
  const next = open(file);
  expect(next.isLinked(PLACE, DIGEST)).toBe(false);
  next.link(PLACE, DIGEST, FACTS);
  expect(next.isLinked(PLACE, DIGEST)).toBe(true);
  next.close();
});

test("writes wait while another process holds the file, and what they are about is absent meanwhile", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const { log, lines } = collectedLog();
  const records = open(file, log);
  const tag = { ...FACTS, digest: digestOf(3), checkedMs: 7 };
  for (const number of [1, 2, 3]) records.link(PLACE, digestOf(number), FACTS);
  records.setTag(PLACE, "latest", "list", tag);
  records.setGrant(PLACE, EVERYBODY, { proof: DIGEST, checkedMs: 1 });
  const held = lock(file);
  const begin = performance.now();
  records.unlink(PLACE, DIGEST);
  records.link(PLACE, digestOf(4), FACTS);
  records.removeTag(PLACE, "gone");
  records.touchTag(PLACE, "latest", "list", 9);
  records.dropGrant(PLACE, EVERYBODY);
  records.used(digestOf(2), Date.now() + 1000);
  const waitedMs = performance.now() - begin;
  expect(records.isLinked(PLACE, DIGEST)).toBe(false);
  expect(records.mediaType(PLACE, DIGEST)).toBeUndefined();
  expect(records.isLinked(PLACE, digestOf(4))).toBe(false);
  expect(records.grant(PLACE, EVERYBODY)).toBeUndefined();
  expect(records.isLinked(PLACE, digestOf(2))).toBe(true);
  expect(records.tag(PLACE, "latest", "list")?.digest).toBe(digestOf(3));
  expect(() => records.pin(DIGEST)).toThrow("another process holds the file");
  const [candidate] = records.evictionCandidates(1);
  expect(candidate && records.condemn(candidate)).toBeUndefined();
  records.unlink(PLACE, digestOf(3));
  expect(records.tag(PLACE, "latest", "list")).toBeUndefined();
  held.release();
  records.flush();
  expect(records.isLinked(PLACE, DIGEST)).toBe(false);
  expect(records.isLinked(PLACE, digestOf(4))).toBe(true);
  records.pin(DIGEST);
  expect(lines).toHaveLength(1);
  // One wait of 50 ms for all of them; four would show that each waits.
  expect(waitedMs).toBeLessThan(200);
  records.close();
});

test("facts that wait are written in their order, the newest are let go when there are too many", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const records = open(file);
  const held = lock(file);
  for (let number = 100; number < 10_200; number += 1) records.link(PLACE, digestOf(number), FACTS);
  held.release();
  records.flush();
  // Not all are written yet, and nothing overtakes them.
  expect(() => records.pin(DIGEST)).toThrow("another process holds the file");
  records.unlink(PLACE, digestOf(10_000));
  expect(records.isLinked(PLACE, digestOf(100))).toBe(true);
  for (let turn = 0; turn < 25; turn += 1) records.flush();
  records.pin(DIGEST);
  expect(records.isLinked(PLACE, digestOf(10_000))).toBe(false);
  expect(records.totals().links).toBe(9999);
  records.close();
});

test("a withdrawal outlives more writes than may wait", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const records = open(file);
  records.link(PLACE, DIGEST, FACTS);
  records.link(PLACE, digestOf(2), FACTS);
  const held = lock(file);
  records.unlink(PLACE, DIGEST);
  for (let number = 100; number < 10_200; number += 1) records.link(PLACE, digestOf(number), FACTS);
  records.unlink(PLACE, digestOf(2));
  held.release();
  for (let turn = 0; turn < 25; turn += 1) records.flush();
  expect(records.isLinked(PLACE, DIGEST)).toBe(false);
  expect(records.isLinked(PLACE, digestOf(2))).toBe(false);
  records.link(PLACE, digestOf(3), FACTS);
  expect(records.isLinked(PLACE, digestOf(3))).toBe(true);
  records.close();
});

test("more withdrawals than may wait take back every link, tag and grant", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const records = open(file);
  records.link(PLACE, digestOf(5), FACTS);
  records.setTag(PLACE, "latest", "list", { ...FACTS, digest: digestOf(5), checkedMs: 7 });
  records.setGrant(PLACE, EVERYBODY, { proof: DIGEST, checkedMs: 1 });
  const held = lock(file);
  for (let number = 100; number < 10_101; number += 1) records.unlink(PLACE, digestOf(number));
  expect(records.isLinked(PLACE, digestOf(5))).toBe(false);
  held.release();
  records.flush();
  expect(records.totals()).toMatchObject({ links: 0, tags: 0, places: 0 });
  records.close();
});

test("two processes write into one file, and both find everything", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const records = open(file);
  const others = [0, 1].map((turn) =>
    Bun.spawn([process.execPath, `${import.meta.dir}/records-writer.ts`, file, String(turn * 300), "300"]),
  );
  for (let number = 1000; number < 1300; number += 1) {
    records.link(PLACE, digestOf(number), FACTS);
    if (number % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const other of others) expect(await other.exited).toBe(0);
  records.flush();
  expect(records.totals().links).toBe(900);
  const place = { registry: "https://quay.io/", repository: "from/other" };
  expect(records.isLinked(place, digestOf(599))).toBe(true);
  expect(records.isLinked(PLACE, digestOf(1299))).toBe(true);
  records.close();
});

test("records stay below the limit of rows; what is longest unproven goes first", async () => {
  const records = open(":memory:", silent, 500);
  for (let number = 0; number < 12_000; number += 1) {
    const place = { ...PLACE, repository: `r${number % 7000}` };
    records.link(place, digestOf(number), FACTS);
    records.setTag(place, `t${number}`, "list", { ...FACTS, digest: digestOf(number), checkedMs: number });
    records.setGrant(place, EVERYBODY, { proof: DIGEST, checkedMs: number });
  }
  const { links, tags, contents, places } = records.totals();
  for (const rows of [links, tags, contents, places]) expect(rows).toBeLessThan(500 + 10_000);
  expect(records.isLinked({ ...PLACE, repository: "r0" }, digestOf(0))).toBe(false);
  expect(records.isLinked({ ...PLACE, repository: `r${11_999 % 7000}` }, digestOf(11_999))).toBe(true);
  records.close();
});

test("records with 100,000 images answer at once (times are printed)", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const count = 100_000;
  open(file).close();
  fillWithImages(file, count);
  const records = open(file);
  const at = (number: number) => ({ ...PLACE, repository: `org/r${number % 1000}` });
  const somewhere = (number: number) => (number * 7919) % count;
  console.log({
    isLinked: measure(2000, (turn) => records.isLinked(at(somewhere(turn)), digestOf(somewhere(turn)))),
    tag: measure(2000, (turn) => records.tag(at(somewhere(turn)), `t${somewhere(turn)}`, "list")),
    link: measure(2000, (turn) => records.link(PLACE, digestOf(count + somewhere(turn)), FACTS)),
    setTag: measure(2000, (turn) =>
      records.setTag(PLACE, `t${turn}`, "list", {
        ...FACTS,
        digest: digestOf(count + somewhere(turn)),
        checkedMs: turn,
      }),
    ),
    used: measure(2000, (turn) => records.used(digestOf(somewhere(turn)), Date.now())),
    totals: measure(3, () => records.totals()),
    images: measure(20, () => records.images({ limit: 100 })),
    candidates: measure(100, () => records.evictionCandidates(64)),
    condemn: measure(1000, () => {
      for (const candidate of records.evictionCandidates(1)) records.condemn(candidate);
    }),
  });
  expect(records.totals().links).toBe(count + 2000 - 1000);
  records.close();
}, 60_000);

/** Written past the records, in one transaction: 100,000 small ones would take the time of all other tests together. */
function fillWithImages(file: string, count: number): void {
  const database = new Database(file);
  const place = database.prepare("INSERT INTO place VALUES (?1, 'https://registry-1.docker.io/', ?2)");
  const content = database.prepare("INSERT INTO content VALUES (?1, ?2, 10, ?1, ?1, 0, 1)");
  const link = database.prepare("INSERT INTO link VALUES (?2, ?1, 'application/json', ?1)");
  const tag = database.prepare("INSERT INTO tag VALUES (?2, ?3, 'list', ?1, 'application/json', 10, ?1, ?1)");
  database.transaction(() => {
    for (let number = 0; number < 1000; number += 1) place.run(number + 1000, `org/r${number}`);
    for (let number = 0; number < count; number += 1) {
      content.run(number + 1, digestOf(number));
      link.run(number + 1, (number % 1000) + 1000);
      tag.run(number + 1, (number % 1000) + 1000, `t${number}`);
    }
  })();
  database.close(true);
}

function measure(times: number, action: (turn: number) => void): string {
  let slowestMs = 0;
  const begin = performance.now();
  for (let turn = 0; turn < times; turn += 1) {
    const start = performance.now();
    action(turn);
    slowestMs = Math.max(slowestMs, performance.now() - start);
  }
  const eachUs = ((performance.now() - begin) / times) * 1000;
  return `${eachUs.toFixed(1)} µs each, slowest ${slowestMs.toFixed(1)} ms`;
}
