/**
 * Opens the file of the Records. It always gives a database: a file that cannot be read is moved aside, and where no file
 * can be, the records live in memory until the next start. What is lost comes back with the next pulls (product section 7).
 */
import { Database, SQLiteError } from "bun:sqlite";
import { renameSync } from "node:fs";
import type { Log } from "../log.ts";
import { migrate } from "./records-schema.ts";

const MEMORY = ":memory:";
/** Before serving, another process that makes or recovers the file may be waited for. */
const OPENING_BUSY_MS = 2000;
/** While serving, a waiting lock stops every transfer: what cannot be written in this time waits in the batch. */
const BUSY_MS = 50;
/** 64 MiB. `records-log` moves the log long before; this is for when that cannot be. */
const CHECKPOINT_PAGES = 16_384;
/** The indexes of some 100,000 contents. */
const CACHE_KIB = 16 * 1024;
/** SQLite's files beside the database. A log left behind would be played into the fresh file. */
const SUFFIXES = ["", "-wal", "-shm"];

/** Every name that the records may have beside them, for a file of this name: `"records.sqlite"`. */
export function recordsFileNames(name: string): readonly string[] {
  return SUFFIXES.flatMap((suffix) => [`${name}${suffix}`, `${name}.damaged${suffix}`]);
}

/** Opens the file, or what can stand in for it; never fails. One log line when it is not the file as it was left. */
export function openDatabase(file: string, log: Log): Database {
  try {
    return openFile(file);
  } catch (error) {
    if (isUnavailable(error)) return openMemory(file, { log, error });
    return replaceDatabase(file, { log, error });
  }
}

/** Moves a damaged file to `<file>.damaged`, over an older one, and opens a fresh one. */
export function replaceDatabase(file: string, { log, error }: { log: Log; error: unknown }): Database {
  if (file === MEMORY) return openFile(file);
  try {
    for (const suffix of SUFFIXES) moveAside(file, suffix);
    const database = openFile(file);
    log.warn(
      { file, err: error },
      "records were unreadable: moved aside to .damaged, a fresh file begun; no content is lost",
    );
    return database;
  } catch (cause) {
    return openMemory(file, { log, error: cause });
  }
}

/** True for errors that say the file is no database of ours, or not any more. */
export function isDamage(error: unknown): boolean {
  return error instanceof SQLiteError && /^SQLITE_(CORRUPT|NOTADB)/.test(error.code ?? "");
}

/** True when another process holds the file: later it will work. */
export function isBusy(error: unknown): boolean {
  return error instanceof SQLiteError && /^SQLITE_(BUSY|LOCKED)/.test(error.code ?? "");
}

/** True when the disk or its rights are in the way, not what the file holds. */
export function isUnavailable(error: unknown): boolean {
  if (isBusy(error)) return true;
  return error instanceof SQLiteError && /^SQLITE_(CANTOPEN|READONLY|PERM|IOERR|FULL|NOMEM)/.test(error.code ?? "");
}

function openMemory(file: string, { log, error }: { log: Log; error: unknown }): Database {
  log.warn({ file, err: error }, "records cannot be kept in their file: kept in memory until the next start");
  return openFile(MEMORY);
}

function openFile(file: string): Database {
  const database = new Database(file, { create: true, readwrite: true, strict: true });
  try {
    database.run(`PRAGMA busy_timeout = ${OPENING_BUSY_MS}`);
    database.run("PRAGMA journal_mode = WAL");
    // A power cut may lose the last seconds, never the file's order: records may be late.
    database.run("PRAGMA synchronous = NORMAL");
    database.run("PRAGMA foreign_keys = ON");
    // Whoever writes the page at which the log is moved into the file waits for the disk.
    database.run(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    database.run(`PRAGMA cache_size = -${CACHE_KIB}`);
    migrate(database);
    database.run(`PRAGMA busy_timeout = ${BUSY_MS}`);
    return database;
  } catch (error) {
    // Closed, so that the file can be moved.
    database.close();
    throw error;
  }
}

function moveAside(file: string, suffix: string): void {
  try {
    renameSync(`${file}${suffix}`, `${file}.damaged${suffix}`);
  } catch (error) {
    // The log and the shared memory are there only while the file is in use.
    if (!isMissing(error)) throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
