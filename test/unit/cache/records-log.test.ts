/** The log of the Records is moved into the file by another thread: when it is long, once at a time, and not after a failure. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { createRecordsLog } from "../../../src/cache/records-log.ts";
import { createLog } from "../../../src/log.ts";
import { silent } from "../../support/http-server.ts";
import { createTempDir } from "../../support/temp-dir.ts";

const LONG = 2000;

/** A thread whose moves end when they are told to. */
function createMovers() {
  const movers = {
    started: 0,
    moved: [] as string[],
    ended: 0,
    running: [] as PromiseWithResolvers<void>[],
    start() {
      movers.started += 1;
      return {
        move(file: string): Promise<void> {
          movers.moved.push(file);
          const running = Promise.withResolvers<void>();
          movers.running.push(running);
          return running.promise;
        },
        end: () => void (movers.ended += 1),
      };
    },
  };
  return movers;
}

test("shorten() begins no move while the log is short", () => {
  const movers = createMovers();
  const fileLog = createRecordsLog("file", { log: silent, mover: movers.start });
  fileLog.shorten(LONG - 1);
  expect(movers.started).toBe(0);
  fileLog.close();
});

test("shorten() begins one move at a time, and settled() waits for it", async () => {
  const movers = createMovers();
  const fileLog = createRecordsLog("file", { log: silent, mover: movers.start });
  fileLog.shorten(LONG);
  fileLog.shorten(LONG + 1);
  const order: string[] = [];
  const settled = fileLog.settled().then(() => order.push("settled"));
  await Promise.resolve();
  order.push("moved");
  movers.running[0]?.resolve();
  await settled;
  expect(order).toEqual(["moved", "settled"]);
  expect(movers.moved).toEqual(["file"]);
  fileLog.shorten(LONG);
  expect({ moves: movers.moved.length, threads: movers.started }).toEqual({ moves: 2, threads: 1 });
  fileLog.close();
  expect(movers.ended).toBe(1);
});

test("shorten() leaves the log to SQLite when a move failed, and says so once", async () => {
  const lines: string[] = [];
  const log = createLog({ level: "warn", format: "json" }, { destination: { write: (line) => void lines.push(line) } });
  const movers = createMovers();
  const fileLog = createRecordsLog("file", { log, mover: movers.start });
  fileLog.shorten(LONG);
  movers.running[0]?.reject(new Error("no thread"));
  await fileLog.settled();
  fileLog.shorten(LONG);
  await fileLog.settled();
  expect({ moves: movers.moved.length, ended: movers.ended, lines: lines.length }).toEqual({
    moves: 1,
    ended: 1,
    lines: 1,
  });
  expect(lines[0]).toContain("no thread");
});

test("a move puts the whole log into the file while it is open, and the next write begins the log anew", async () => {
  await using dir = await createTempDir();
  const file = dir.file("records.db");
  const database = new Database(file, { create: true });
  database.run("PRAGMA journal_mode = WAL");
  database.run("PRAGMA wal_autocheckpoint = 0");
  database.run("CREATE TABLE t (text TEXT)");
  for (let row = 0; row < 100; row += 1) database.run("INSERT INTO t VALUES (?)", ["x".repeat(4000)]);
  const length = () =>
    database.query<{ log: number; checkpointed: number }, []>("PRAGMA wal_checkpoint(NOOP)").get() ?? undefined;
  expect(length()).toMatchObject({ checkpointed: 0 });
  const pages = length()?.log ?? 0;
  const fileLog = createRecordsLog(file, { log: silent });
  fileLog.shorten(LONG);
  await fileLog.settled();
  expect(length()).toMatchObject({ log: pages, checkpointed: pages });
  database.run("INSERT INTO t VALUES ('one more')");
  expect(length()?.log).toBeLessThan(10);
  fileLog.close();
  database.close(true);
});
