/** The programs of one measurement: all that were started are ended, also one that was just starting. */
import type { MeasuredProcess } from "../process.ts";

export interface Programs {
  /** @throws Error when the end has begun */
  run(start: () => Promise<MeasuredProcess>): Promise<MeasuredProcess>;
  endAll(): Promise<void>;
}

export function createPrograms(): Programs {
  const starting: Promise<MeasuredProcess>[] = [];
  let hasEnded = false;
  return {
    async run(start) {
      if (hasEnded) throw new Error("the measurement was ended");
      const started = start();
      starting.push(started);
      return started;
    },
    async endAll() {
      hasEnded = true;
      // One that failed to start has ended itself.
      const results = await Promise.allSettled(starting);
      await Promise.all(results.map((result) => (result.status === "fulfilled" ? result.value.stop() : undefined)));
    },
  };
}
