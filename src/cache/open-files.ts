/**
 * The files that are open. Three things a bare file handle leaves to its user are settled here:
 * - the runtime ends the program when a handle is collected that nobody closed: all are known here, and closed with the store;
 * - a handle that is closed under a running operation reads or writes another's file: closing waits for what runs;
 * - a disk that hangs lets its user wait for ever: every operation has a deadline.
 */
import { type FileHandle, open } from "node:fs/promises";
import { StoreError } from "./store.ts";

export interface OpenFile {
  /** Fills `into` as far as the file goes; the bytes read. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** Writes all of it. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Undefined for everything but plain files. */
  bytes(): Promise<number | undefined>;
  /** Cuts off what is behind the end and makes the rest durable. Without deadline: gigabytes take their time, and no client waits. */
  settle(bytes: number): Promise<void>;
  /** When what runs has ended; waits no longer for it than a deadline. */
  close(): Promise<void>;
}

export interface OpenFiles {
  open(path: string, flags: string | number): Promise<OpenFile>;
  /** Never rejects: what cannot be closed is left to the end of the program. */
  closeAll(): Promise<void>;
}

export interface OpenFilesOptions {
  /** What one operation may take. A busy disk may stall for seconds; clients wait for a byte about a minute. */
  readonly timeoutMs: number;
}

export interface OpenFilesDependencies {
  readonly openHandle?: (path: string, flags: string | number) => Promise<FileHandle>;
}

export function createOpenFiles({ timeoutMs }: OpenFilesOptions, dependencies: OpenFilesDependencies = {}): OpenFiles {
  const { openHandle = open } = dependencies;
  const files = new Set<OpenFile>();
  return {
    async open(path, flags) {
      const opening = openHandle(path, flags);
      let handle: FileHandle;
      try {
        handle = await within(timeoutMs, opening);
      } catch (cause) {
        // It may still be opened one day.
        opening.then((late) => late.close()).catch(() => undefined);
        throw cause;
      }
      const file = createOpenFile(handle, timeoutMs, () => files.delete(file));
      files.add(file);
      return file;
    },
    async closeAll() {
      await Promise.allSettled([...files].map((file) => file.close()));
    },
  };
}

function createOpenFile(handle: FileHandle, timeoutMs: number, onClosed: () => void): OpenFile {
  const running = new Set<Promise<unknown>>();
  let closing: Promise<void> | undefined;

  function tracked<T>(operation: () => Promise<T>): Promise<T> {
    if (closing !== undefined) return Promise.reject(new StoreError("broken", "the file is closed"));
    const result = operation();
    running.add(result);
    const ended = (): void => void running.delete(result);
    result.then(ended, ended);
    return result;
  }

  async function writeAll(bytes: Uint8Array, position: number): Promise<void> {
    let written = 0;
    while (written < bytes.byteLength) {
      const { bytesWritten } = await handle.write(bytes, written, bytes.byteLength - written, position + written);
      written += bytesWritten;
    }
  }

  async function settle(bytes: number): Promise<void> {
    await handle.truncate(bytes);
    await handle.datasync();
  }

  async function closeWhenIdle(): Promise<void> {
    await Promise.allSettled(running);
    onClosed();
    await handle.close();
  }

  return {
    async read(into, position) {
      const { bytesRead } = await within(
        timeoutMs,
        tracked(() => handle.read(into, 0, into.byteLength, position)),
      );
      return bytesRead;
    },
    write: (bytes, position) =>
      within(
        timeoutMs,
        tracked(() => writeAll(bytes, position)),
      ),
    async bytes() {
      const stats = await within(
        timeoutMs,
        tracked(() => handle.stat()),
      );
      return stats.isFile() ? stats.size : undefined;
    },
    settle: (bytes) => tracked(() => settle(bytes)),
    close() {
      closing ??= closeWhenIdle();
      return within(timeoutMs, closing);
    },
  };
}

/**
 * The same, but not for ever.
 * @throws StoreError `broken` at the deadline; what was waited for goes on and must harm nobody
 */
export async function within<T>(timeoutMs: number, waited: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new StoreError("broken", `the disk did not answer within ${timeoutMs} ms`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([waited, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
