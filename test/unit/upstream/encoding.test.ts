import { expect, test } from "bun:test";
import { decodeBody } from "../../../src/upstream/encoding.ts";

test("decodeBody() that is not wanted is cancelled in peace, whatever it holds", async () => {
  const source = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode("this is no gzip"));
      controller.close();
    },
  });
  expect(await decodeBody(source, ["gzip"], "it").cancel()).toBeUndefined();
});
