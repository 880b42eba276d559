/**
 * Between the Records and their file: nothing throws because of the file, and nothing waits for it longer than 50 ms, since
 * SQLite's waiting stops every transfer of the process.
 *
 *   read   ▶ the file                      busy: absent, and the file is left alone for a moment
 *   write  ▶ the file                      busy: waits, in order; absent meanwhile
 *   used   ▶ batch ──every 2 s or 100──▶ the file
 *   damage ▶ moved aside, a fresh file
 */
import type { Log } from "../log.ts";
import { isDamage, isUnavailable, openDatabase, replaceDatabase } from "./records-file.ts";
import { createRecordsLog } from "./records-log.ts";
import { createTables, type Tables } from "./records-tables.ts";
import { createWaiting, type WaitingWrite } from "./records-waiting.ts";

export interface RecordsDatabase {
  /** Asks the file; `absent` when it cannot be asked now. */
  read<T>(absent: T, ask: (tables: Tables) => T): T;
  /** Writes at once, or later when that cannot be. */
  write(write: WaitingWrite<Tables>): void;
  /** True when a write about this waits: what the file says about it no longer holds. */
  isWaiting(subject: string): boolean;
  /** Another number once this process may have changed what is read, or whether it can be. */
  changes(): number;
  /** Writes at once or not at all: undefined when that cannot be now. */
  tryWrite<T>(action: (tables: Tables) => T): T | undefined;
  used(digest: string, atMs: number): void;
  /** When the file has caught up with its log. */
  settled(): Promise<void>;
  flush(): void;
  close(): void;
}

export interface RecordsDatabaseOptions {
  readonly file: string;
  readonly maxRows: number;
}

export interface RecordsDatabaseDependencies {
  readonly log: Log;
  readonly now: () => number;
}

/** How late uses are written, how long waiting writes wait, and how long a file that was busy is left alone. */
const TICK_MS = 2000;
/** Uses written in one transaction: a few milliseconds. */
const MAX_BATCH = 100;
/** Uses kept while the file is busy; more of them are not worth the memory, they only order eviction. */
const MAX_USES = 10_000;
const MAX_WAITING = 10_000;
/** Waiting writes made in one go. */
const DRAIN = 500;
/** Writes between two looks at how many rows there are; a look reads an index. Above the limit each look removes as many. */
const WRITES_PER_TRIM = 10_000;
const WRITES_PER_SLICE = 1000;
/** Writes between two looks at how long the log is: some hundred pages. */
const WRITES_PER_LOOK = 64;
/** A disk that damages fresh files again and again gets no more of them. */
const MAX_REPLACED = 3;

export function createRecordsDatabase(
  { file, maxRows }: RecordsDatabaseOptions,
  { log, now }: RecordsDatabaseDependencies,
): RecordsDatabase {
  let tables: Tables | undefined = createTables({ database: openDatabase(file, log), now, maxRows });
  let replaced = 0;
  // Apart: another process that writes does not keep us from reading.
  let isReadResting = false;
  let isWriteResting = false;
  let isOverfull = false;
  let writes = 0;
  let committed = 0;
  let changes = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const uses = new Map<string, number>();
  const fileLog = createRecordsLog(file, { log });
  const waiting = createWaiting<Tables>({ maxWrites: MAX_WAITING, forgetAll: (target) => target.clear() });

  function tickLater(): void {
    if (timer !== undefined || tables === undefined) return;
    timer = setTimeout(tick, TICK_MS);
    timer.unref();
  }

  function tick(): void {
    clearTimeout(timer);
    timer = undefined;
    changes += 1; // what was absent while the file rested need not be so any more
    isReadResting = false;
    isWriteResting = false;
    waiting.drain(isSettled, DRAIN);
    flushUses();
    if (waiting.size > 0 || uses.size > 0) tickLater();
  }

  function read<T>(absent: T, ask: (tables: Tables) => T): T {
    if (tables === undefined || isReadResting) return absent;
    try {
      return ask(tables);
    } catch (error) {
      isReadResting = mustRest(error);
      return absent;
    }
  }

  /** Runs it in a transaction; undefined and no more tries for a while when the file is in the way. */
  function attempt<T>(action: (tables: Tables) => T): { readonly value: T } | undefined {
    // Before the write, so that what was written is told whatever comes of this.
    if (committed % WRITES_PER_LOOK === 0) fileLog.shorten(read(0, (asked) => asked.logPages()));
    if (tables === undefined || isWriteResting) return undefined;
    changes += 1;
    const target = tables;
    try {
      const value = target.atomically(() => action(target));
      committed += 1;
      return { value };
    } catch (error) {
      isWriteResting = mustRest(error);
      return undefined;
    }
  }

  /** Mends what can be mended; true when the file must be left alone for a moment. */
  function mustRest(error: unknown): boolean {
    changes += 1;
    if (isDamage(error)) {
      replace(error);
      return false;
    }
    if (!isUnavailable(error)) {
      log.error({ err: error }, "records: a statement failed");
      return false;
    }
    if (waiting.size === 0) log.warn({ file, err: error }, "records cannot be read or written now: tried again soon");
    tickLater();
    return true;
  }

  function replace(error: unknown): void {
    try {
      tables?.close();
    } catch (closing) {
      // The damage may be in the way here too; the file is moved all the same.
      log.debug({ err: closing }, "records: damaged file not closed in order");
    }
    replaced += 1;
    const database = replaced > MAX_REPLACED ? openDatabase(":memory:", log) : replaceDatabase(file, { log, error });
    tables = createTables({ database, now, maxRows });
  }

  /** False when the write must be tried again; one that failed for another reason would fail again. */
  function isSettled(action: (tables: Tables) => void): boolean {
    return attempt(action) !== undefined || !isWriteResting;
  }

  function flushUses(): void {
    if (uses.size === 0) return;
    const batch = [...uses].slice(0, MAX_BATCH);
    const written = attempt(({ needs }) => {
      for (const [digest, atMs] of batch) needs.used(digest, atMs);
    });
    if (written === undefined) return;
    for (const [digest] of batch) uses.delete(digest);
  }

  function trimSometimes(): void {
    writes += 1;
    if (writes < (isOverfull ? WRITES_PER_SLICE : WRITES_PER_TRIM)) return;
    writes = 0;
    isOverfull = attempt(({ trim }) => trim.trim())?.value ?? false;
  }

  return {
    read,
    write(write) {
      if (tables === undefined) return;
      if (waiting.size === 0 && isSettled(write.write)) return trimSometimes();
      waiting.add(write);
      changes += 1; // what it is about is absent from now on
      tickLater();
    },
    isWaiting: (subject) => waiting.concerns(subject),
    changes: () => changes,
    tryWrite(action) {
      if (waiting.size > 0) return undefined;
      flushUses();
      return attempt(action)?.value;
    },
    used(digest, atMs) {
      if (uses.size >= MAX_USES && !uses.has(digest)) return;
      uses.set(digest, Math.max(atMs, uses.get(digest) ?? 0));
      if (uses.size >= MAX_BATCH) flushUses();
      tickLater();
    },
    settled: () => fileLog.settled(),
    flush: tick,
    close() {
      tick();
      fileLog.close();
      clearTimeout(timer);
      try {
        tables?.close();
      } catch (error) {
        // What was written stays; a log beside the file is played in at the next start.
        log.warn({ file, err: error }, "records: file not closed in order");
      }
      tables = undefined;
    },
  };
}
