/**
 * Backpressure for request bodies on connections handed to the server by `emit("connection")`: there Bun reads on when
 * nobody reads the body (200 MB of an unread upload were held in memory), while on sockets it accepted itself it stops.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

export interface UploadFlow {
  /** From now on the unread bytes of this request count. */
  add(request: IncomingMessage): void;
  /** The request was answered: what still comes of its body is dropped as it comes. */
  remove(request: IncomingMessage): void;
}

/** Unread bytes of a connection above which it is read no further; a reader empties all of them at once. */
const MAX_UNREAD_BYTES = 256 * 1024;

export function createUploadFlow(socket: Socket): UploadFlow {
  // As many as a client may send ahead.
  const requests = new Set<IncomingMessage>();
  let isHeld = false;

  function weigh(): void {
    let unread = 0;
    for (const request of requests) unread += request.readableLength;
    const isTooMuch = unread > MAX_UNREAD_BYTES;
    // Each time: the runtime resumes the socket by itself when some of a body is read.
    if (isTooMuch) socket.pause();
    else if (isHeld) socket.resume();
    isHeld = isTooMuch;
  }

  socket.on("data", weigh);
  return {
    add: (request) => void requests.add(request),
    remove(request) {
      requests.delete(request);
      weigh();
    },
  };
}
