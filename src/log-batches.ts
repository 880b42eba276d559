/**
 * Lines of the log on their way to standard output, which takes one system call however many lines it is given:
 *
 *   quiet   line ──────────▶ output                 at once
 *   busy    line ─▶ batch ──┬─▶ output              10 ms after the last write, or when 64 KiB wait
 *           warning or worse┘                       at once, behind what waits
 *
 * The order stays. What the end of the program leaves behind, `flush` writes; only `kill -9` and a crash of the runtime
 * lose a batch, the last 10 ms at most.
 */

export interface LogBatches {
  /** Takes one line, its newline included. pino says its level in `lastLevel` before. */
  write(line: string): void;
  /** Writes what waits. */
  flush(): void;
  /** pino's number for the level of the line that comes next: 30 info, 40 warn. */
  lastLevel: number;
}

export interface LogBatchesDependencies {
  /** Writes, and returns when it is written: who reads slowly slows down who writes, and nothing is dropped. */
  readonly output: (lines: string) => void;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Calls back later without keeping the program alive. */
  readonly later: (callback: () => void, delayMs: number) => void;
}

/** Some hundred lines of a busy proxy; nobody who reads a log sees the delay. */
const INTERVAL_MS = 10;
/** What a pipe takes at once. */
const MAX_CHARACTERS = 64 * 1024;
/** pino's number for warnings: what may be the last thing a program says does not wait. */
const WARN = 40;

export function createLogBatches({ output, now, later }: LogBatchesDependencies): LogBatches {
  let batch = "";
  let writtenMs = Number.NEGATIVE_INFINITY;
  let isFlushDue = false;

  function flush(): void {
    if (batch === "") return;
    const lines = batch;
    batch = "";
    output(lines);
    writtenMs = now();
  }

  function flushLater(): void {
    if (isFlushDue) return;
    isFlushDue = true;
    later(() => {
      isFlushDue = false;
      flush();
    }, INTERVAL_MS);
  }

  return {
    lastLevel: 0,
    write(line) {
      batch += line;
      const mayWait = this.lastLevel < WARN && batch.length < MAX_CHARACTERS;
      // While a flush is due the batch waits for it, without a look at the clock.
      if (mayWait && (isFlushDue || now() - writtenMs < INTERVAL_MS)) flushLater();
      else flush();
    },
    flush,
  };
}
