/**
 * What a file system answers, told as the Store tells it; and the habit that makes names durable: a directory is synced after
 * a name in it changed.
 */
import { lstat, open } from "node:fs/promises";
import { StoreError } from "./store.ts";

/** No room, whoever says so: the disk, a quota, a limit on the size of files. */
const FULL_CODES: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** @param what the thing that was tried: `"append to the spool"` */
export function storeErrorOf(cause: unknown, what: string): StoreError {
  if (cause instanceof StoreError) return cause;
  const code = errorCode(cause);
  const kind = code !== undefined && FULL_CODES.has(code) ? "full" : "broken";
  return new StoreError(kind, `could not ${what}: ${code ?? String(cause)}`, { cause });
}

/** `"ENOENT"`; undefined for errors that do not come from the system. */
export function errorCode(cause: unknown): string | undefined {
  if (!(cause instanceof Error) || !("code" in cause)) return undefined;
  return typeof cause.code === "string" ? cause.code : undefined;
}

/** The result, or undefined when the path does not exist. */
export async function unlessMissing<T>(result: Promise<T>): Promise<T | undefined> {
  try {
    return await result;
  } catch (cause) {
    const code = errorCode(cause);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw cause;
  }
}

/** Size of a plain file; undefined for everything else. Links are not followed: they may lead out of the store. */
export async function fileBytes(path: string): Promise<number | undefined> {
  const stats = await unlessMissing(lstat(path));
  return stats?.isFile() === true ? stats.size : undefined;
}

/** Makes names in a directory survive a loss of power. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } catch (cause) {
    // Some network file systems cannot sync a directory; what they promise for renames is all there is.
    if (errorCode(cause) !== "EINVAL") throw cause;
  } finally {
    await handle.close();
  }
}
