/** An upstream for fills: gives one content in pieces, counts, and breaks as it is told. */
import type { ContentSource, SourceBody, WantedBytes } from "../../src/download/download.ts";
import { type Digest, parseDigest } from "../../src/registry/digest.ts";

export type Break =
  /** Errors after so many bytes of this answer. */
  | { readonly kind: "error"; readonly after: number }
  /** Ends cleanly after so many bytes. */
  | { readonly kind: "end"; readonly after: number }
  /** Says nothing more after so many bytes. */
  | { readonly kind: "silence"; readonly after: number }
  /** No answer. */
  | { readonly kind: "refuse"; readonly error: unknown };

export interface FakeSourceOptions {
  readonly bytes: Uint8Array;
  /** Length of each piece; by default 1000. */
  readonly pieceBytes?: () => number;
  /** What happens to the first, second, … answer; undefined or missing: nothing. */
  readonly breaks?: readonly (Break | undefined)[];
  /** By default told. */
  readonly isTotalTold?: boolean;
  /** False: every answer begins at 0 (protocol R272). */
  readonly takesOffsets?: boolean;
  /** Awaited before each piece. */
  readonly beforePiece?: (sent: number) => Promise<void> | undefined;
}

export interface FakeSource {
  readonly open: ContentSource;
  /** Offsets that were asked for. */
  readonly offsets: readonly number[];
  readonly sentBytes: number;
  /** Bodies neither read to their end nor cancelled. */
  readonly openBodies: number;
}

export function createFakeSource(options: FakeSourceOptions): FakeSource {
  const { bytes, pieceBytes = () => 1000, breaks = [], isTotalTold = true, takesOffsets = true } = options;
  const offsets: number[] = [];
  let sentBytes = 0;
  let openBodies = 0;

  async function open(wanted: WantedBytes, signal: AbortSignal): Promise<SourceBody> {
    const fault = breaks[offsets.length];
    offsets.push(wanted.first);
    await Promise.resolve();
    signal.throwIfAborted();
    if (fault?.kind === "refuse") throw fault.error;
    const offset = takesOffsets ? wanted.first : 0;
    const end = takesOffsets && wanted.last !== undefined ? wanted.last + 1 : bytes.byteLength;
    const body = bodyFrom({ offset, end }, fault, signal);
    return { body, offset, totalBytes: isTotalTold ? bytes.byteLength : undefined };
  }

  function bodyFrom(
    { offset, end: last }: { offset: number; end: number },
    fault: Exclude<Break, { kind: "refuse" }> | undefined,
    signal: AbortSignal,
  ) {
    let sent = 0;
    let isOpen = true;
    openBodies += 1;
    const end = (): void => {
      if (isOpen) openBodies -= 1;
      isOpen = false;
    };
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          await options.beforePiece?.(offset + sent);
          if (fault !== undefined && sent >= fault.after) {
            if (fault.kind === "silence")
              return new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
            end();
            return fault.kind === "error"
              ? controller.error(new Error("reset by the fake upstream"))
              : controller.close();
          }
          const left = Math.min(last - offset, fault?.after ?? Infinity) - sent;
          if (left <= 0 && fault === undefined) {
            end();
            return controller.close();
          }
          const first = offset + sent;
          const piece = bytes.slice(first, Math.min(first + Math.max(1, pieceBytes()), first + left));
          sent += piece.byteLength;
          sentBytes += piece.byteLength;
          if (piece.byteLength > 0) return controller.enqueue(piece);
          end();
          controller.close();
        },
        cancel: end,
      },
      { highWaterMark: 0 },
    );
  }

  return {
    open,
    offsets,
    get sentBytes() {
      return sentBytes;
    },
    get openBodies() {
      return openBodies;
    },
  };
}

/** Bytes that look random and are the same for the same seed. */
export function noise(bytes: number, seed: number): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(bytes);
  let state = (Math.imul(seed, 2654435761) + 1) >>> 0;
  for (let i = 0; i < bytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    result[i] = state >>> 24;
  }
  return result;
}

export function digestOfBytes(bytes: Uint8Array): Digest {
  const digest = parseDigest(`sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`);
  if (digest === undefined) throw new Error("a hash is a digest");
  return digest;
}

/** What a reader got until the end or the error. */
export async function drain(stream: ReadableStream<Uint8Array>): Promise<{ bytes: Buffer; error: unknown }> {
  const pieces: Uint8Array[] = [];
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { bytes: Buffer.concat(pieces), error: undefined };
      pieces.push(value);
    }
  } catch (error) {
    return { bytes: Buffer.concat(pieces), error };
  }
}
