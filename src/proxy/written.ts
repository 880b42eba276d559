/**
 * What clients have written lately, tags and digests: what was asked before a write and answered after it is old, and what
 * became of a write that broke nobody knows (protocol R78). In memory: a record that was removed stays so without it.
 *
 *     HEAD v1 ──asked──────────────────────────────▶ old digest: served to who waited, not recorded
 *                  PUT v1 ──sent──▶ 201: record removed, written
 */
import { LRUCache } from "lru-cache";
import type { Place } from "../cache/records.ts";

export interface Written {
  /** Now, on a clock of writes. */
  turn(): number;
  /** A tag or digest was written, deleted, or perhaps. */
  add(place: Place, name: string): void;
  /** Whether it was written after that turn. */
  isSince(turn: number, place: Place, name: string): boolean;
  /** Whether it was written and nobody has looked since. */
  isUnseen(place: Place, name: string): boolean;
  /** Somebody asked after the last write what it is. */
  seen(place: Place, name: string): void;
}

/** Writes that may run beside a question, many times over; an entry is some 200 bytes. */
const MAX_NAMES = 10_000;

export function createWritten(): Written {
  const names = new LRUCache<string, { readonly turn: number; isSeen: boolean }>({ max: MAX_NAMES });
  let turn = 0;
  return {
    turn: () => turn,
    add(place, name) {
      turn += 1;
      names.set(keyOf(place, name), { turn, isSeen: false });
    },
    isSince: (since, place, name) => (names.get(keyOf(place, name))?.turn ?? 0) > since,
    isUnseen: (place, name) => names.get(keyOf(place, name))?.isSeen === false,
    seen(place, name) {
      const known = names.get(keyOf(place, name));
      if (known !== undefined) known.isSeen = true;
    },
  };
}

function keyOf({ registry, repository }: Place, name: string): string {
  return JSON.stringify([registry, repository, name]);
}
