import { expect, test } from "bun:test";
import { decodeBody } from "../../../src/upstream/encoding.ts";

test("decodeBody() that is not wanted is cancelled in peace, also when all of it came and is cut", async () => {
  const source = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        controller.enqueue(new TextEncoder().encode("body"));
        controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  const body = decodeBody(source, ["gzip"], "it");
  await new Promise((resolve) => setImmediate(resolve)); // it is read ahead
  expect(await body.cancel()).toBeUndefined();
});
