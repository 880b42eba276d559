/**
 * The body of a request that writes: whole, so that it can be sent again after a challenge, or a stream that can be sent
 * once and is read no faster than the upstream takes it.
 */
import type { HeaderLine } from "../errors.ts";
import type { Leash } from "./leash.ts";

export type OutgoingBody =
  | { readonly kind: "whole"; readonly bytes: Uint8Array<ArrayBuffer> }
  | {
      readonly kind: "stream";
      readonly stream: ReadableStream<Uint8Array>;
      /** As the client announced it, bytes; undefined for a chunked body. */
      readonly length: number | undefined;
    };

/** How long a registry may take behind the last byte: it may hash or move the layer first (protocol R80). */
const ANSWER_TIMEOUT_MS = 5 * 60_000;

/**
 * Without a length fetch sends chunks, which storage behind registries refuses (protocol R82). A chunked body of unknown
 * length cannot be helped.
 */
export function lengthLine(body: OutgoingBody): HeaderLine[] {
  const length = body.kind === "whole" ? body.bytes.byteLength : body.length;
  return length === undefined ? [] : [["Content-Length", String(length)]];
}

/** What fetch takes. While a stream gets on its leash is lengthened; an upstream that takes no byte for `idleTimeoutMs` is given up. */
export function outgoing(
  body: OutgoingBody,
  leash: Leash,
  idleTimeoutMs: number,
): Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> {
  if (body.kind === "whole") return body.bytes;
  const reader = body.stream.getReader();
  leash.postpone(idleTimeoutMs);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        leash.postpone(done ? ANSWER_TIMEOUT_MS : idleTimeoutMs);
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
