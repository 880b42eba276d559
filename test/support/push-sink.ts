/**
 * A registry that takes one upload of any size and keeps nothing of it but length and digest. It reads only so far as it is
 * let: what it leaves in the kernel must hold back whoever sends.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface PushSink extends AsyncDisposable {
  readonly url: string;
  /** Bytes read so far. */
  readonly received: number;
  /** Of the body that ended last. */
  readonly digest: string | undefined;
  /** Stops reading behind so many bytes. */
  holdAfter(bytes: number): void;
  release(): void;
}

export async function startPushSink(): Promise<PushSink> {
  let received = 0;
  let limit = Number.POSITIVE_INFINITY;
  let digest: string | undefined;
  let running: IncomingMessage | undefined;

  function take(request: IncomingMessage, response: ServerResponse): void {
    const hash = createHash("sha256");
    received = 0;
    running = request;
    request.on("data", (chunk: Buffer) => {
      hash.update(chunk);
      received += chunk.byteLength;
      if (received >= limit) request.pause();
    });
    request.on("end", () => {
      digest = `sha256:${hash.digest("hex")}`;
      response.writeHead(202, { Location: "/v2/org/sink/blobs/uploads/1", Range: `0-${received - 1}` }).end();
    });
  }

  const server = createServer((request, response) => {
    if (request.method === "PATCH") return take(request, response);
    request.resume();
    if (request.method === "POST") response.writeHead(202, { Location: "/v2/org/sink/blobs/uploads/1" }).end();
    else response.writeHead(request.method === "PUT" ? 201 : 200).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get received() {
      return received;
    },
    get digest() {
      return digest;
    },
    holdAfter: (bytes) => void (limit = bytes),
    release() {
      limit = Number.POSITIVE_INFINITY;
      running?.resume();
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** So many bytes, the same each time; `sent` counts what was taken, `digest` is there at the end. */
export function giantBody(bytes: number) {
  const piece = new Uint8Array(256 * 1024).map((_, index) => index * 31);
  const hash = createHash("sha256");
  const counters = { sent: 0, digest: "" };
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const chunk = piece.subarray(0, Math.min(piece.length, bytes - counters.sent));
        if (chunk.length === 0) {
          counters.digest = `sha256:${hash.digest("hex")}`;
          return controller.close();
        }
        hash.update(chunk);
        counters.sent += chunk.length;
        controller.enqueue(Uint8Array.from(chunk));
      },
    },
    { highWaterMark: 0 },
  );
  return { stream, counters };
}
