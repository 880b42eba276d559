/**
 * What a fill leaves whose store failed. Its download, with what came already and is written nowhere: the first follower that
 * gets to where it stands goes on with it, so that one client costs one request to the upstream even without a store. And
 * what was written, to be hashed by followers that had it from memory.
 */
import type { Download } from "../download/download.ts";
import type { ContentReader } from "./store.ts";

export interface Spare {
  /** Once, and only exactly where it stands. */
  take(position: number): Download | undefined;
  /** What was written, until nobody follows any more. */
  reader(): ContentReader | undefined;
  /** Nobody follows: what was written is closed. The download stays for who waits for his head. */
  unfollowed(): void;
}

export interface Left {
  readonly download: Download;
  /** Bytes that come before what the download gives next. */
  readonly unwritten: readonly Uint8Array[];
  /** The spare's to close. */
  readonly written: ContentReader | undefined;
}

/** A client that waits for the header block is here in milliseconds; an upstream's connection is not held for longer. */
const KEPT_MS = 5000;

export function createSpare({ download: rest, unwritten, written }: Left): Spare {
  let download: Download | undefined = withFirst(unwritten, rest);
  let isFollowed = true;
  let readers = 0;
  const closeWhenUnused = (): void => {
    // A handle that cannot be closed is the system's matter: nothing was written through it.
    if (!isFollowed && readers === 0) written?.close().catch(() => undefined);
  };
  const timer = setTimeout(() => {
    download?.cancel(new Error("nobody goes on with it"));
    download = undefined;
  }, KEPT_MS);
  timer.unref();
  return {
    reader() {
      if (written === undefined || !isFollowed) return undefined;
      readers += 1;
      let isOpen = true;
      const close = async (): Promise<void> => {
        if (isOpen) readers -= 1;
        isOpen = false;
        closeWhenUnused();
      };
      return { ...written, close };
    },
    unfollowed() {
      if (!isFollowed) return;
      isFollowed = false;
      closeWhenUnused();
    },
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
