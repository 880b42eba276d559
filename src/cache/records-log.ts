/**
 * Keeps SQLite's log short without the event loop waiting for the disk. Moving the log into the file syncs both, which takes
 * tenths of a second on a busy disk; left to SQLite, whoever happens to write does it. So a thread of its own does:
 *
 *   write ▶ log          every few writes: is it long?
 *   Worker: log ▶ file   synced; readers and writers go on meanwhile
 *   write ▶ log again from its beginning, when nothing was written meanwhile
 *
 * Whoever writes without end waits for `settled` in between, or the log would never begin again. When the thread fails, SQLite
 * does it as before, later (`records-file`).
 */
import type { Log } from "../log.ts";

export interface RecordsLog {
  /** Begins to move the log into the file when it is this long. One at a time; never throws. */
  shorten(pages: number): void;
  /** When no move is under way. Never rejects, and not later than the deadline of a move. */
  settled(): Promise<void>;
  /** Ends the thread, whatever it does: a log that is left is played in at the next start. */
  close(): void;
}

export interface RecordsLogDependencies {
  readonly log: Pick<Log, "warn">;
  /** Moves the log into the file, and resolves when that is done. Default: in a Worker. */
  readonly mover?: () => Mover;
}

/** Another thread with a connection of its own. */
export interface Mover {
  /** @throws when it could not be done */
  move(file: string): Promise<void>;
  end(): void;
}

/** 8 MiB: a move takes longer to be begun than to copy this much. */
const LONG_PAGES = 2000;
/** A disk that takes longer is left alone: the writers go on, and the log grows until SQLite moves it itself. */
const MOVE_TIMEOUT_MS = 20_000;
/** A thread costs some megabytes; evictions need it many times in a row, and then not for hours. */
const REST_MS = 5000;

export function createRecordsLog(file: string, { log, mover = startMover }: RecordsLogDependencies): RecordsLog {
  let thread: Mover | undefined;
  let moving: Promise<void> | undefined;
  let resting: ReturnType<typeof setTimeout> | undefined;
  let hasFailed = false;

  async function move(): Promise<void> {
    clearTimeout(resting);
    try {
      thread ??= mover();
      await thread.move(file);
      resting = setTimeout(end, REST_MS);
      resting.unref();
    } catch (cause) {
      // Said once: from now on SQLite does it, with its waits.
      if (!hasFailed) log.warn({ file, err: cause }, "the log of the records could not be moved beside the traffic");
      hasFailed = true;
      end();
    }
  }

  function end(): void {
    thread?.end();
    thread = undefined;
  }

  return {
    shorten(pages) {
      if (pages < LONG_PAGES || hasFailed) return;
      moving ??= move().finally(() => {
        moving = undefined;
      });
    },
    settled: async () => moving,
    close() {
      clearTimeout(resting);
      hasFailed = true;
      end();
    },
  };
}

/** The whole program of the thread: text, so that the compiled binary needs no second file. */
const PROGRAM = `
  import { Database } from "bun:sqlite";
  self.onmessage = ({ data: file }) => {
    try {
      const database = new Database(file, { readwrite: true });
      try {
        database.run("PRAGMA wal_checkpoint(PASSIVE)");
      } finally {
        database.close();
      }
      self.postMessage("done");
    } catch (error) {
      self.postMessage(String(error));
    }
  };`;

function startMover(): Mover {
  const url = URL.createObjectURL(new Blob([PROGRAM], { type: "application/javascript" }));
  const worker = new Worker(url, { smol: true });
  worker.unref();
  /** Ends the wait for a thread that will not answer any more. */
  let giveUp = (): void => undefined;
  return {
    move: (file) =>
      new Promise((resolve, reject) => {
        // It keeps a program alive that waits for nothing else, as the thread does not.
        const timer = setTimeout(
          () => reject(new Error(`expected an end within ${MOVE_TIMEOUT_MS} ms`)),
          MOVE_TIMEOUT_MS,
        );
        const settle = (failure: string | undefined): void => {
          clearTimeout(timer);
          if (failure === undefined) resolve();
          else reject(new Error(failure));
        };
        giveUp = () => settle("the thread was ended");
        worker.onmessage = ({ data }: MessageEvent<unknown>) => settle(data === "done" ? undefined : String(data));
        worker.onerror = ({ message }) => settle(message);
        worker.postMessage(file);
      }),
    end() {
      URL.revokeObjectURL(url);
      worker.terminate();
      giveUp(); // its timer would hold up the end of the program
    },
  };
}
