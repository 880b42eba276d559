/**
 * The folder of this process's spools, and the suspended ones in it. Several processes may share a cache directory: each
 * writes in a folder of its own, and takes over by rename, which only one can win, what dead ones left.
 *
 *   spool/<owner>/alive                         its socket, see `liveness`
 *   spool/<owner>/<algorithm>-<hex>.<random>    one download
 *   spool/left-<random>/…                       after an orderly end: free for anybody
 */
import { lstat, mkdir, readdir, rename, rmdir, unlink } from "node:fs/promises";
import type { Server } from "node:net";
import { join } from "node:path";
import type { Log } from "../log.ts";
import type { Digest } from "../registry/digest.ts";
import type { Budget, Reservation } from "./budget.ts";
import { errorCode, unlessMissing } from "./disk.ts";
import { digestNamed, type Layout } from "./layout.ts";
import { claim, isAbandoned, LEFT_PREFIX, ownerName, thisHost } from "./liveness.ts";

/** A suspended spool: what a broken download left. */
export interface Suspended {
  readonly path: string;
  readonly bytes: number;
  readonly reservation: Reservation;
}

export interface SpoolFolder {
  /** Path for a new spool; the folder exists then. @throws the file system's error */
  newPath(digest: Digest): Promise<string>;
  /** Hands out the suspended spool of a digest, of this or of a dead process; who takes it looks after it. */
  take(digest: Digest): Promise<Suspended | undefined>;
  /** Keeps a spool for later, for a day at most. Of two of one digest the longer stays. */
  keep(digest: Digest, spool: Suspended): Promise<void>;
  /** Removes suspended spools, the oldest first, until so many bytes are free or none is left. */
  drop(bytes: number): Promise<void>;
  /** Leaves what is suspended to other processes. Never rejects; a second call does nothing. */
  close(): Promise<void>;
}

export interface SpoolFolderDependencies {
  readonly budget: Pick<Budget, "reserve">;
  readonly log: Pick<Log, "info" | "warn">;
  readonly now: () => number;
}

interface Kept extends Suspended {
  /** When it last came on: milliseconds since 1970. */
  readonly touchedMs: number;
}

/** More half downloads than this are not worth their disk space; the oldest goes. */
const MAX_SUSPENDED = 1024;
/** Whoever was cut off has long tried again: a blob that nobody asked for in a day is not wanted any more. */
const MAX_AGE_MS = 24 * 60 * 60_000;
/** How often that is looked after. */
const LOOK_MS = 60 * 60_000;

export async function createSpoolFolder(layout: Layout, dependencies: SpoolFolderDependencies): Promise<SpoolFolder> {
  const { budget, log, now } = dependencies;
  const host = await thisHost();
  const own = ownerName(host);
  const folder = join(layout.spool, own);
  const suspended = new Map<string, Kept>();
  let opening: Promise<void> | undefined;
  let server: Server | undefined;
  let adopting: Promise<void> | undefined;

  await adopt();
  const looking = setInterval(() => void dropStale(), LOOK_MS);
  looking.unref();

  /** Made at the first spool: a read-only directory still serves what it holds. */
  function openFolder(): Promise<void> {
    opening ??= makeFolder().catch((cause: unknown) => {
      opening = undefined;
      throw cause;
    });
    return opening;
  }

  async function makeFolder(): Promise<void> {
    await mkdir(folder, { recursive: true });
    if (server !== undefined) return;
    try {
      server = await claim(folder);
    } catch (cause) {
      log.warn(
        { err: cause, folder },
        "no socket can be made in the cache directory; after a crash half downloads are found again only after an hour",
      );
    }
  }

  function adopt(): Promise<void> {
    adopting ??= adoptAll().finally(() => (adopting = undefined));
    return adopting;
  }

  async function adoptAll(): Promise<void> {
    try {
      for (const name of (await unlessMissing(readdir(layout.spool))) ?? []) {
        if (name === own) continue;
        const path = join(layout.spool, name);
        if (await isAbandoned(path, name, { host, now: now() })) await adoptFrom(path);
      }
    } catch (cause) {
      log.warn({ err: cause, directory: layout.spool }, "could not take over half downloads");
    }
  }

  async function adoptFrom(dead: string): Promise<void> {
    for (const name of (await unlessMissing(readdir(dead))) ?? []) {
      const digest = digestOfSpool(name);
      if (digest !== undefined) await adoptFile(digest, join(dead, name));
      else if (name === "alive") await unlessMissing(unlink(join(dead, name)));
    }
    await removeEmpty(dead);
  }

  async function adoptFile(digest: Digest, from: string): Promise<void> {
    const stats = await unlessMissing(lstat(from));
    if (stats?.isFile() !== true) return;
    const { size: bytes, mtimeMs: touchedMs } = stats;
    if (bytes === 0 || isStale(touchedMs)) return void (await unlessMissing(unlink(from)));
    const path = await newPath(digest);
    // Another process may have been first: then it is gone from here.
    if ((await unlessMissing(rename(from, path).then(() => true))) !== true) return;
    log.info({ digest: digest.text, bytes }, "took over a half download");
    await hold(digest, { path, bytes, reservation: budget.reserve(bytes), touchedMs });
  }

  async function newPath(digest: Digest): Promise<string> {
    await openFolder();
    return join(folder, `${digest.algorithm}-${digest.encoded}.${crypto.randomUUID().slice(0, 8)}`);
  }

  async function keep(digest: Digest, spool: Suspended): Promise<void> {
    await dropStale();
    await hold(digest, { ...spool, touchedMs: now() });
  }

  async function hold(digest: Digest, spool: Kept): Promise<void> {
    const other = suspended.get(digest.text);
    if (other !== undefined && other.bytes >= spool.bytes) return remove(spool);
    suspended.delete(digest.text);
    suspended.set(digest.text, spool);
    if (other !== undefined) await remove(other);
    if (suspended.size > MAX_SUSPENDED) await dropOldest();
  }

  function isStale(touchedMs: number): boolean {
    return now() - touchedMs > MAX_AGE_MS;
  }

  /** Never rejects: it is looked after again. */
  async function dropStale(): Promise<void> {
    for (const [text, spool] of suspended) {
      if (!isStale(spool.touchedMs)) continue;
      suspended.delete(text);
      log.info({ digest: text, bytes: spool.bytes }, "removed a half download that nobody asked for in a day");
      await remove(spool).catch((cause: unknown) => log.warn({ err: cause }, "could not remove a half download"));
    }
  }

  async function dropOldest(): Promise<number> {
    for (const [text, spool] of suspended) {
      suspended.delete(text);
      await remove(spool);
      return spool.bytes;
    }
    return 0;
  }

  /** The socket goes along and is closed after: at no moment does the folder look like that of a process that crashed. */
  async function leaveFolder(): Promise<void> {
    const left = join(layout.spool, `${LEFT_PREFIX}${crypto.randomUUID()}`);
    try {
      await unlessMissing(rename(folder, left));
    } finally {
      server?.close();
      server = undefined;
    }
    await unlessMissing(unlink(join(left, "alive")));
    await removeEmpty(left);
  }

  return {
    async newPath(digest) {
      const path = await newPath(digest);
      // Somebody may have emptied the cache directory under us.
      if ((await unlessMissing(lstat(folder))) === undefined) {
        opening = undefined;
        server?.close();
        server = undefined;
        await openFolder();
      }
      return path;
    },
    async take(digest) {
      if (!suspended.has(digest.text)) await adopt();
      const spool = suspended.get(digest.text);
      suspended.delete(digest.text);
      return spool;
    },
    keep,
    async drop(bytes) {
      for (let left = bytes; left > 0 && suspended.size > 0;) left -= await dropOldest();
    },
    async close() {
      clearInterval(looking);
      await adopting;
      if (opening === undefined) return;
      opening = undefined;
      try {
        await leaveFolder();
      } catch (cause) {
        log.warn(
          { err: cause, folder },
          "could not leave half downloads to the next process; it finds them as it does after a crash",
        );
      }
    },
  };
}

async function remove({ path, reservation }: Suspended): Promise<void> {
  reservation.release();
  await unlessMissing(unlink(path));
}

/** Another process may put the last of its files here at this moment, or a stranger's file is in it: then it stays. */
async function removeEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (cause) {
    const code = errorCode(cause);
    if (code !== "ENOENT" && code !== "ENOTEMPTY" && code !== "EEXIST") throw cause;
  }
}

function digestOfSpool(name: string): Digest | undefined {
  const parts = /^(sha256|sha512)-([0-9a-f]+)\.[0-9a-f]+$/.exec(name);
  return digestNamed(parts?.[1] ?? "", parts?.[2] ?? "");
}
