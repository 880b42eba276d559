/** The waits of a fault relay (fault-relay.ts): each ends with its connection. */
import type net from "node:net";

/** Resolves when the system has taken it. @throws the signal's reason when the connection ends first */
export async function write(socket: net.Socket, bytes: Buffer, gone: AbortSignal): Promise<void> {
  gone.throwIfAborted();
  if (bytes.length === 0 || socket.write(bytes)) return;
  await unlessGone(gone, (done) => {
    socket.once("drain", done);
    return () => socket.off("drain", done);
  });
  gone.throwIfAborted();
}

export async function sleep(ms: number, gone: AbortSignal): Promise<void> {
  if (ms <= 0) return;
  await unlessGone(gone, (done) => {
    const timer = setTimeout(done, ms);
    return () => clearTimeout(timer);
  });
}

/** Resolves when `begin` calls back or the connection is gone; leaves no listener behind, since a connection waits often. */
export function unlessGone(gone: AbortSignal, begin: (done: () => void) => () => void): Promise<void> {
  return new Promise((resolve) => {
    if (gone.aborted) return resolve();
    const done = (): void => {
      gone.removeEventListener("abort", done);
      stop();
      resolve();
    };
    gone.addEventListener("abort", done);
    const stop = begin(done);
  });
}
