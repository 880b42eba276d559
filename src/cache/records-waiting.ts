/**
 * Writes that could not be made because another process held the file, in their order. Until a write is made, the fact it
 * is about reads as absent: a link that was withdrawn must not show because its withdrawal waits.
 */

export interface Waiting<Target> {
  readonly size: number;
  /** Puts a write at the end; the newest facts are let go when too many wait, withdrawals never. */
  add(write: WaitingWrite<Target>): void;
  /** True when a write about this waits. */
  concerns(subject: string): boolean;
  /** Makes up to `limit` writes; the one of which `make` says false, and those behind it, go on waiting. */
  drain(make: (write: (target: Target) => void) => boolean, limit: number): void;
}

export interface WaitingOptions<Target> {
  /** Writes that wait at most: each holds a few hundred bytes. */
  readonly maxWrites: number;
  /** Stands for all when even the withdrawals are too many: takes back every fact. */
  readonly forgetAll: (target: Target) => void;
}

export interface WaitingWrite<Target> {
  /** A fact comes back with the next request; a withdrawal that is lost would let what it took back show again. */
  readonly kind: "fact" | "withdrawal";
  /** What it is about, as `concerns` is asked. */
  readonly subject: string;
  readonly write: (target: Target) => void;
}

/** Concerns everything. */
const EVERYTHING = "";

export function createWaiting<Target>({ maxWrites, forgetAll }: WaitingOptions<Target>): Waiting<Target> {
  let writes: WaitingWrite<Target>[] = [];
  let subjects = new Set<string>();

  function keep(kept: WaitingWrite<Target>[]): void {
    writes = kept;
    subjects = new Set(kept.map(({ subject }) => subject));
  }

  return {
    get size() {
      return writes.length;
    },
    add(write) {
      if (writes.length >= maxWrites) {
        if (write.kind === "fact") return;
        keep(writes.filter(({ kind }) => kind === "withdrawal"));
      }
      if (writes.length >= maxWrites) keep([{ kind: "withdrawal", subject: EVERYTHING, write: forgetAll }]);
      writes.push(write);
      subjects.add(write.subject);
    },
    concerns: (subject) => subjects.size > 0 && (subjects.has(subject) || subjects.has(EVERYTHING)),
    drain(make, limit) {
      const due = writes.slice(0, limit);
      const stuck = due.findIndex(({ write }) => !make(write));
      keep(writes.slice(stuck === -1 ? due.length : stuck));
    },
  };
}
