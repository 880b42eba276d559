/**
 * A log for what is true of every pull while it lasts: a full disk, a directory that cannot be written. Each warning is
 * written once, then again after a while with the number of those left out (lesson T19).
 */
import type { Log } from "../log.ts";

export type SparingLog = Pick<Log, "debug" | "info" | "warn">;

/** Long enough that a day of trouble is a page of lines. */
const REPEAT_MS = 10 * 60_000;

/** @param now milliseconds */
export function createSparingLog(log: SparingLog, now: () => number): SparingLog {
  // One entry per message in the code.
  const written = new Map<string, { atMs: number; omitted: number }>();

  function warn(...line: unknown[]): void {
    const [details, message] = line;
    if (typeof details !== "object" || typeof message !== "string") return log.warn(details);
    const last = written.get(message);
    if (last !== undefined && now() - last.atMs < REPEAT_MS) {
      last.omitted += 1;
      return;
    }
    written.set(message, { atMs: now(), omitted: 0 });
    log.warn(last === undefined ? details : { ...details, omitted: last.omitted }, message);
  }

  return { debug: log.debug.bind(log), info: log.info.bind(log), warn };
}
