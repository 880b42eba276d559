/** A push of gigabytes at full size: `npm run test:long`; `LAYOVER_GB=0.1` makes a gigabyte that small. */
import { expect, test } from "bun:test";
import { peakMiB } from "../support/cached.ts";
import { startLayover } from "../support/layover.ts";
import { giantBody, startPushSink } from "../support/push-sink.ts";

const GB = Math.round(1024 ** 3 * Number(process.env["LAYOVER_GB"] ?? 1));
const HALF_HOUR_MS = 30 * 60_000;

test(
  "[R79, R80] a layer of two gigabytes passes through in flat memory",
  async () => {
    await using sink = await startPushSink();
    const map = { default: "sink", sink: { upstreams: [sink.url], hosts: ["sink.test"] } };
    const layover = await startLayover({ map, args: ["--allow-push"] });
    const begun = await fetch(`${layover.url}/v2/org/sink/blobs/uploads/`, { method: "POST" });
    const { stream, counters } = giantBody(2 * GB);
    const patched = await fetch(begun.headers.get("location") ?? "", {
      method: "PATCH",
      body: stream,
      headers: { "content-length": String(2 * GB) },
    });
    expect([patched.status, sink.received, sink.digest]).toEqual([202, 2 * GB, counters.digest]);
    expect(await peakMiB(layover)).toBeLessThan(300);
    await layover.stop();
  },
  HALF_HOUR_MS,
);
