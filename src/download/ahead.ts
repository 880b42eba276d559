/** A part that is read before its turn, into memory: all of it, as fast as it comes. */
import type { Part } from "./part.ts";

export interface Ahead {
  readonly first: number;
  /** Where the next byte lies that `next` gives. */
  readonly position: number;
  /** Exclusive. */
  readonly end: number;
  /** `running` until everything came, or what is missing cannot be had this way. */
  readonly state: "running" | "complete" | "failed";
  /** Bytes that came. */
  readonly receivedBytes: number;
  /** The next bytes; undefined behind the last one that came when it is complete or failed. One at a time. */
  next(): Promise<Uint8Array | undefined>;
  reconnect(): void;
  cancel(reason: unknown): void;
}

export interface AheadEvents {
  /** The first bytes came. */
  readonly begun: () => void;
  readonly progressed: () => void;
  readonly ended: (failure?: unknown) => void;
}

/** @param part ends at `end`; it is this one's from now on */
export function createAhead(part: Part, end: number, { begun, progressed, ended }: AheadEvents): Ahead {
  const first = part.position;
  const pieces: Uint8Array[] = [];
  let position = first;
  let state: Ahead["state"] = "running";
  let wake = (): void => undefined;
  void run();

  async function run(): Promise<void> {
    try {
      for (let piece = await part.next(); piece !== undefined; piece = await part.next()) {
        if (position === first && pieces.length === 0) begun();
        pieces.push(piece);
        wake();
        progressed();
      }
      state = "complete";
      ended();
    } catch (failure) {
      state = "failed";
      ended(failure);
    }
    wake();
  }

  return {
    first,
    get position() {
      return position;
    },
    end,
    get state() {
      return state;
    },
    get receivedBytes() {
      return part.position - first;
    },
    async next() {
      while (pieces.length === 0 && state === "running") {
        await new Promise<void>((resolve) => (wake = resolve));
      }
      const piece = pieces.shift();
      position += piece?.byteLength ?? 0;
      return piece;
    },
    reconnect: part.reconnect,
    cancel(reason) {
      pieces.length = 0;
      part.cancel(reason);
    },
  };
}

export function isAhead(reading: Part | Ahead): reading is Ahead {
  return "receivedBytes" in reading;
}

export function isRunning(part: Part | Ahead): boolean {
  return !isAhead(part) || part.state === "running";
}

/** What did not come yet; infinite for one without an end. */
export function missingBytes(part: Part | Ahead): number {
  return (part.end ?? Infinity) - (isAhead(part) ? part.first + part.receivedBytes : part.position);
}
