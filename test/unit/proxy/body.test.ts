import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createHash } from "node:crypto";
import { digestOf, readBounded, slice, verified } from "../../../src/proxy/body.ts";
import { parseDigest } from "../../../src/registry/digest.ts";

/** A stream of the given pieces that records whether it was cancelled. */
function streamOf(pieces: readonly Uint8Array[]) {
  const seen = { cancelled: false };
  const queue = [...pieces];
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      const piece = queue.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(piece);
    },
    cancel() {
      seen.cancelled = true;
    },
  });
  return { stream, seen };
}

const pieces = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 20 });

function digest(text: string) {
  const parsed = parseDigest(text);
  if (parsed === undefined) throw new Error(`no digest: ${text}`);
  return parsed;
}

describe("readBounded()", () => {
  test("gives all bytes however they come in pieces", async () => {
    await fc.assert(
      fc.asyncProperty(pieces, async (parts) => {
        expect(Buffer.from(await readBounded(streamOf(parts).stream, 1000))).toEqual(Buffer.concat(parts));
      }),
    );
  });

  test("[R45] refuses what is longer and cancels the rest", async () => {
    const { stream, seen } = streamOf([new Uint8Array(10), new Uint8Array(10), new Uint8Array(10)]);
    await expect(readBounded(stream, 15)).rejects.toThrow("expected at most 15 bytes");
    expect(seen.cancelled).toBe(true);
  });
});

describe("verified()", () => {
  test("[R237] passes on every byte of the right content", async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.constantFrom("sha256", "sha512"), async (parts, algorithm) => {
        const whole = Buffer.concat(parts);
        const right = digest(digestOf(whole, algorithm));
        for (const length of [undefined, whole.length]) {
          const out = await new Response(
            verified(streamOf(parts).stream, right, { length, refuse: undefined }),
          ).bytes();
          expect(Buffer.from(out)).toEqual(whole);
        }
      }),
    );
  });

  test("[R237] holds nothing back while more must come", async () => {
    const first = new Uint8Array(5).fill(1);
    const never = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(first),
      pull: () => new Promise(() => undefined),
    });
    const reader = verified(never, digest(digestOf(first, "sha256")), { length: 6, refuse: undefined }).getReader();
    expect((await reader.read()).value).toEqual(first);
  });

  test.each([undefined, 207, 150])(
    "[R237, T13] never passes on the last piece of wrong content (length %p)",
    async (length) => {
      const parts = [new Uint8Array(100).fill(1), new Uint8Array(100).fill(2), new Uint8Array(7).fill(3)];
      const wrong = digest(`sha256:${createHash("sha256").update("other").digest("hex")}`);
      const faults: string[] = [];
      const refuse = (fault: string) => void faults.push(fault);
      const reader = verified(streamOf(parts).stream, wrong, { length, refuse }).getReader();
      let received = 0;
      const failure = await (async () => {
        for (;;) {
          const { value, done } = await reader.read();
          if (done) return "ended";
          received += value.byteLength;
        }
      })().catch((error: unknown) => String(error));
      expect(failure).toContain("digest mismatch");
      expect(received).toBe(200);
      expect(faults).toEqual(["digest"]);
    },
  );

  test("[R237] gives nothing at all of wrong content in one piece", async () => {
    const wrong = digest(digestOf(new Uint8Array(1), "sha256"));
    const reader = verified(streamOf([new Uint8Array(5)]).stream, wrong, { length: 5, refuse: undefined }).getReader();
    await expect(reader.read()).rejects.toThrow("digest mismatch");
  });

  test("cancels the source when the reader leaves", async () => {
    const { stream, seen } = streamOf([new Uint8Array(5), new Uint8Array(5)]);
    await verified(stream, digest(digestOf(new Uint8Array(1), "sha256")), {
      length: undefined,
      refuse: undefined,
    }).cancel();
    expect(seen.cancelled).toBe(true);
  });
});

describe("slice()", () => {
  test("[R272] cuts exactly the range out of any pieces", async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.nat(), fc.nat(), async (parts, a, b) => {
        const whole = Buffer.concat(parts);
        if (whole.length === 0) return;
        const first = a % whole.length;
        const length = 1 + (b % (whole.length - first));
        const out = await new Response(slice(streamOf(parts).stream, first, length)).bytes();
        expect(Buffer.from(out)).toEqual(whole.subarray(first, first + length));
      }),
    );
  });

  test("[R235] errors when the body ends before the range does", async () => {
    await expect(new Response(slice(streamOf([new Uint8Array(5)]).stream, 2, 10)).bytes()).rejects.toThrow();
  });

  test("[R272] cancels what follows the range", async () => {
    const { stream, seen } = streamOf([new Uint8Array(5), new Uint8Array(5), new Uint8Array(5)]);
    await new Response(slice(stream, 0, 3)).bytes();
    expect(seen.cancelled).toBe(true);
  });
});
