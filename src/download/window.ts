/**
 * The parts of one content that are under way, in order, and the memory that they hold. It counts and keeps; what to ask for is
 * decided elsewhere.
 *
 *     current ──▶ reader   queue, each read ahead             trial: behind a split, not known to come yet
 *     [····■■■■][■■■■■■··][■■■·····]           or   [····■■           ][     ]
 */
import { type Ahead, isAhead, isRunning, missingBytes } from "./ahead.ts";
import type { Part } from "./part.ts";

export interface Window {
  readonly current: Part | Ahead;
  readonly trial: Ahead | undefined;
  /** Parts in the queue. */
  readonly length: number;
  /** Where the last part ends, exclusive; undefined: with the content. */
  readonly end: number | undefined;
  /** Where the bytes lay that came if they all lay in a row. */
  receivedBytes(): number;
  /** Parts whose connection brings, or may bring, bytes. */
  running(): number;
  /** Those of them whose end is further away than this. */
  busy(soonBytes: number): number;
  /** The current one, and those that have begun: what is complete has flowed, and its connection has another part by now. */
  flowing(): number;
  /** Whether everything behind the current part is here. */
  isQueueComplete(): boolean;
  /** Its memory is reserved already, and given back by `drop`, `moveOn` and `clear`. */
  push(ahead: Ahead): void;
  /** The same for the part behind a split; undefined, and it is no trial any more. */
  tryOut(ahead: Ahead | undefined): void;
  /** The first of the queue, if there is one, takes the place of the current part. */
  moveOn(): boolean;
  /** So does this one. */
  replace(part: Part): void;
  /** Takes those out of the queue's end of which nothing came, nor will. */
  dropFailed(): boolean;
  drop(ahead: Ahead, reason: unknown): void;
  /** Drops all that holds memory; of a current part that does nothing more comes. */
  clear(reason: unknown): void;
}

/** @param released told of memory that is not held any more, bytes */
export function createWindow(first: Part, released: (bytes: number) => void): Window {
  let current: Part | Ahead = first;
  let trial: Ahead | undefined;
  const queue: Ahead[] = [];
  /** Those that hold memory. */
  const held = new Set<Ahead>();

  function ahead(): Ahead[] {
    return trial === undefined ? queue : [...queue, trial];
  }

  function running(): (Part | Ahead)[] {
    return [current, ...ahead()].filter(isRunning);
  }

  function release(part: Ahead): void {
    if (held.delete(part)) released(part.end - part.first);
  }

  function drop(part: Ahead, reason: unknown): void {
    release(part);
    part.cancel(reason);
  }

  return {
    get current() {
      return current;
    },
    get trial() {
      return trial;
    },
    get length() {
      return queue.length;
    },
    get end() {
      return queue.at(-1)?.end ?? current.end;
    },
    receivedBytes() {
      const ofCurrent = isAhead(current) ? current.first + current.receivedBytes : current.position;
      return ahead().reduce((sum, { receivedBytes }) => sum + receivedBytes, ofCurrent);
    },
    running: () => running().length,
    busy: (soonBytes) => running().filter((part) => missingBytes(part) > soonBytes).length,
    flowing: () => 1 + queue.filter(({ receivedBytes }) => receivedBytes > 0).length,
    isQueueComplete: () => queue.every(({ state }) => state === "complete"),
    push(part) {
      held.add(part);
      queue.push(part);
    },
    tryOut(part) {
      trial = part;
      if (part !== undefined) held.add(part);
    },
    moveOn() {
      if (isAhead(current)) release(current);
      const following = queue.shift();
      current = following ?? current;
      return following !== undefined;
    },
    replace(part) {
      if (isAhead(current)) release(current);
      current = part;
    },
    dropFailed() {
      const before = queue.length;
      for (let last = queue.at(-1); last?.state === "failed" && last.receivedBytes === 0; last = queue.at(-1)) {
        release(last);
        queue.pop();
      }
      return queue.length < before;
    },
    drop,
    clear(reason) {
      for (const part of held) drop(part, reason);
      queue.length = 0;
      trial = undefined;
    },
  };
}
