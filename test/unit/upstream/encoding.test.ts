import { expect, test } from "bun:test";
import { decodeBody } from "../../../src/upstream/encoding.ts";

test("decodeBody() that is not wanted is cancelled in peace, whatever it holds", async () => {
  let isCancelled = false;
  const source = new ReadableStream<Uint8Array>(
    {
      pull: (controller) => controller.enqueue(new TextEncoder().encode("this is no gzip")),
      cancel: () => void (isCancelled = true),
    },
    { highWaterMark: 0 },
  );
  expect(await decodeBody(source, ["gzip"], "it").cancel()).toBeUndefined();
  expect(isCancelled).toBe(true);
});
