/** The downloads of the process: what they share, and the settings that hold for all. */
import type { Downloads } from "./download.ts";
import { sleepFor } from "../sleep.ts";
import { createLanes } from "./lanes.ts";
import { createParallelDownload, type ParallelDependencies } from "./parallel.ts";
import { createPart } from "./part.ts";

export interface DownloadsOptions {
  /** How long a body may bring no byte before it counts as broken. */
  readonly idleTimeoutMs: number;
  /** For one content, where several are faster. 1: never more. Default 8. */
  readonly maxConnections?: number;
  /** Memory for what comes ahead of its turn, over all downloads, bytes. Default 64 MiB. */
  readonly aheadBytes?: number;
}

/** Browsers open six to a host; download programs up to sixteen. */
const MAX_CONNECTIONS = 8;
/** Two contents with all their connections, in parts of four MiB; others do with fewer meanwhile. */
const AHEAD_BYTES = 64 * 1024 * 1024;

export function createDownloads(
  { idleTimeoutMs, maxConnections = MAX_CONNECTIONS, aheadBytes = AHEAD_BYTES }: DownloadsOptions,
  dependencies: Partial<Omit<ParallelDependencies, "lanes" | "maxConnections">> = {},
): Downloads {
  const { sleep = sleepFor, random = Math.random, now = () => performance.now() } = dependencies;
  const lanes = createLanes({ maxBytes: aheadBytes });
  let resumes = 0;
  const parts = { sleep, random, resumed: () => void (resumes += 1) };
  return {
    start({ last, totalBytes, isWanted = () => true, isPromised = () => false, ...options }) {
      const end = last === undefined ? undefined : last + 1;
      const wanted = { ...options, end, totalBytes, isWanted, isPromised, idleTimeoutMs };
      if (maxConnections <= 1) return createPart({ ...wanted, isExtra: false }, parts);
      return createParallelDownload(wanted, { ...parts, now, lanes, maxConnections });
    },
    gaveWrongParts: lanes.answersBadly,
    get aheadBytes() {
      return lanes.reservedBytes;
    },
    get resumes() {
      return resumes;
    },
  };
}
