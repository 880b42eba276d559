/** A body that is silent for longer than any of the server's own times: only its source may end it (protocol R259). */
import { describe, expect, test } from "bun:test";
import { head, startHttpServer, WAYS } from "../../support/http-server.ts";

const TIME_MS = 100;

describe.each(WAYS)("over a %s connection", (way) => {
  test("[R259, R258] a stream that falls silent in its middle is waited for, and so is a slow answer", async () => {
    let reads = 0;
    const body = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          reads += 1;
          if (reads === 2) await Bun.sleep(5 * TIME_MS);
          if (reads > 2) return controller.close();
          controller.enqueue(new Uint8Array(1000).fill(reads));
        },
      },
      { highWaterMark: 0 },
    );
    await using server = await startHttpServer({
      way,
      headersTimeoutMs: TIME_MS,
      keepAliveTimeoutMs: TIME_MS,
      idleTimeoutMs: TIME_MS,
      bodyTimeoutMs: TIME_MS,
      answer: async () => {
        await Bun.sleep(3 * TIME_MS);
        return { status: 200, headers: [["Content-Length", "2000"]], body };
      },
    });
    const client = await server.connect();
    client.send(head("GET /blob"));
    const answer = await client.readAnswer();
    expect([answer.status, answer.isComplete, answer.body.byteLength]).toEqual([200, true, 2000]);
    client.end();
  });
});
