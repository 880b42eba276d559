/**
 * Content in the Store that the Records do not know could never be evicted: its records were deleted or damaged, or the
 * process was killed between the two removals. This walks the Store and tells the Records.
 */
import type { Records } from "./records.ts";
import type { Store } from "./store.ts";

export interface LearnDependencies {
  readonly store: Pick<Store, "list">;
  readonly records: Pick<Records, "adopt" | "settled">;
  /** The last use to write down for what was not known. */
  readonly usedMs: number;
}

/** Contents between two turns for other work: about a millisecond when each is news. */
const TURN = 16;

/** Tells the records of everything the store has. @throws what `Store.list` throws */
export async function learnContent(dependencies: LearnDependencies, signal: AbortSignal): Promise<void> {
  const { store, records, usedMs } = dependencies;
  let seen = 0;
  for await (const content of store.list()) {
    if (signal.aborted) return;
    records.adopt(content, usedMs);
    seen += 1;
    if (seen % TURN !== 0) continue;
    await new Promise((resolve) => setImmediate(resolve));
    await records.settled();
  }
}
