/**
 * What a fill wrote last, still in memory, so that a reader that keeps up with the download need not read it back from the
 * file. Each piece is given away once, together with its memory: memory that several sockets hold could neither be freed nor
 * used again in time. So where several read, all read the file; the kernel has it in memory.
 */
export interface Recent {
  /** Keeps what was written at this position, or frees it: the memory is the caller's no longer. */
  add(bytes: Uint8Array, position: number): void;
  /** The piece that begins exactly here, when it ends at or before `end`; its memory is the caller's then. */
  take(position: number, end: number): Uint8Array | undefined;
  /** Where the next piece begins, behind this position: who reads the file up to there can take it. */
  nextStart(position: number): number | undefined;
  /** Frees everything. */
  clear(): void;
}

interface Piece {
  readonly position: number;
  readonly bytes: Uint8Array;
}

/** A few writes. A reader that is further behind does not keep up; and each fill may hold so much. */
const MAX_KEPT_BYTES = 1024 * 1024;

/** @param hasOneReader asked at every step: readers come and go */
export function createRecent(hasOneReader: () => boolean): Recent {
  let pieces: Piece[] = [];
  let keptBytes = 0;

  /** Oldest first. */
  function dropDownTo(maxBytes: number): void {
    while (keptBytes > maxBytes) {
      const dropped = pieces.shift();
      if (dropped === undefined) return;
      keptBytes -= dropped.bytes.byteLength;
      freeMemory(dropped.bytes);
    }
  }

  return {
    add(bytes, position) {
      pieces.push({ position, bytes });
      keptBytes += bytes.byteLength;
      dropDownTo(hasOneReader() ? MAX_KEPT_BYTES : 0);
    },
    take(position, end) {
      const found = hasOneReader() ? pieces.find((piece) => piece.position === position) : undefined;
      if (found === undefined || position + found.bytes.byteLength > end) return undefined;
      pieces = pieces.filter((piece) => piece !== found);
      keptBytes -= found.bytes.byteLength;
      return found.bytes;
    },
    nextStart: (position) => (hasOneReader() ? pieces.find((piece) => piece.position > position)?.position : undefined),
    clear: () => dropDownTo(0),
  };
}

/**
 * Gives memory back at once. The collector would come much later, and what is allocated meanwhile gets pages that the kernel
 * has to clear first. Only for bytes that nobody looks at any more; a view on a part may have neighbours and is left alone.
 */
export function freeMemory({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
