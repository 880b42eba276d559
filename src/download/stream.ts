/** A download as a stream, for whoever passes it on: it is read only as fast as its reader takes it. */
import type { Download } from "./download.ts";

export function streamOf(download: Download): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = await download.next();
        if (piece === undefined) controller.close();
        else controller.enqueue(piece);
      },
      cancel: (reason) => download.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
