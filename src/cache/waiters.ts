/** Those who wait for the next change of something. A Set of functions, because a promise that lives long keeps everybody who ever raced it. */
export interface Waiters {
  /** Calls back at the next change, once. @returns what takes the call back */
  add(callback: () => void): () => void;
  wake(): void;
}

export function createWaiters(): Waiters {
  let waiting = new Set<() => void>();
  return {
    add(callback) {
      const here = waiting;
      here.add(callback);
      return () => void here.delete(callback);
    },
    wake() {
      const called = waiting;
      waiting = new Set();
      for (const callback of called) callback();
    },
  };
}
