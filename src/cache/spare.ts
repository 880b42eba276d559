/**
 * The download of a fill whose store failed, with what came already and is written nowhere: the first follower that gets
 * to where it stands goes on with it, so that one client costs one request to the upstream even without a store.
 */
import type { Download } from "../download/download.ts";

export interface Spare {
  /** Once, and only exactly where it stands. */
  take(position: number): Download | undefined;
}

/** A client that waits for the header block is here in milliseconds; an upstream's connection is not held for longer. */
const KEPT_MS = 5000;

/** @param first bytes that come before what `rest` gives next */
export function createSpare(first: readonly Uint8Array[], rest: Download): Spare {
  let download: Download | undefined = withFirst(first, rest);
  const timer = setTimeout(() => {
    download?.cancel(new Error("nobody goes on with it"));
    download = undefined;
  }, KEPT_MS);
  timer.unref();
  return {
    take(position) {
      if (download?.position !== position) return undefined;
      clearTimeout(timer);
      const taken = download;
      download = undefined;
      return taken;
    },
  };
}

function withFirst(pieces: readonly Uint8Array[], rest: Download): Download {
  const waiting = [...pieces];
  let waitingBytes = waiting.reduce((sum, { byteLength }) => sum + byteLength, 0);
  return {
    get position() {
      return rest.position - waitingBytes;
    },
    get totalBytes() {
      return rest.totalBytes;
    },
    open: rest.open,
    async next() {
      const piece = waiting.shift();
      waitingBytes -= piece?.byteLength ?? 0;
      return piece ?? rest.next();
    },
    cancel: rest.cancel,
  };
}
