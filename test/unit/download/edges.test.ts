/** Where a download begins, ends and is left: each edge, with one connection and with several. */
import { describe, expect, test } from "bun:test";
import type { ContentSource, SourceBody, WantedBytes } from "../../../src/download/download.ts";
import { watchIdle } from "../../../src/download/idle.ts";
import { createDownloads } from "../../../src/download/downloads.ts";
import { UpstreamError } from "../../../src/errors.ts";
import { noise } from "../../support/fill-source.ts";

const content = noise(200_000, 7);

interface Seen {
  readonly source: ContentSource;
  readonly asked: WantedBytes[];
  readonly signals: AbortSignal[];
  /** Bodies that were read to their end, and those that were cancelled. */
  readonly ended: number;
  readonly cancelled: number;
}

/** @param answer changes what is told of the body, or gives it other bytes */
function watched(answer: (wanted: WantedBytes, turn: number) => Partial<Omit<SourceBody, "body">> = () => ({})): Seen {
  const asked: WantedBytes[] = [];
  const signals: AbortSignal[] = [];
  const seen = { ended: 0, cancelled: 0 };
  return {
    asked,
    signals,
    get ended() {
      return seen.ended;
    },
    get cancelled() {
      return seen.cancelled;
    },
    async source(wanted, signal) {
      const told = answer(wanted, asked.push(wanted) - 1);
      signals.push(signal);
      let position = told.offset ?? wanted.first;
      const end = Math.min(content.byteLength, (wanted.last ?? Infinity) + 1);
      const body = new ReadableStream<Uint8Array>(
        {
          async pull(controller) {
            const piece = content.slice(position, Math.min(end, position + 30_000));
            position += piece.byteLength;
            if (piece.byteLength > 0) return controller.enqueue(piece);
            await settled(); // the end of a body comes after its last byte
            seen.ended += 1;
            controller.close();
          },
          cancel: () => void (seen.cancelled += 1),
        },
        { highWaterMark: 0 },
      );
      return { body, offset: wanted.first, totalBytes: content.byteLength, host: "a.test", ...told };
    },
  };
}

async function readAll(download: { next(): Promise<Uint8Array | undefined> }): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let piece = await download.next(); piece !== undefined; piece = await download.next()) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Lets everything go on that waits for nothing. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe.each([1, 8])("Download with up to %d connections", (maxConnections) => {
  const downloads = createDownloads({ idleTimeoutMs: 60_000, maxConnections });

  test("lets the last body end by itself, so that its connection stays usable", async () => {
    const upstream = watched();
    const download = downloads.start({ source: upstream.source, first: 0 });
    await download.open();
    expect((await readAll(download)).equals(content)).toBe(true);
    await settled();
    await settled();
    expect([upstream.ended, upstream.cancelled, upstream.signals.map(({ aborted }) => aborted)]).toEqual([
      1,
      0,
      [false],
    ]);
  });

  test("cancels a body that comes in the moment in which it is left", async () => {
    for (let moments = 0; moments < 30; moments++) {
      const upstream = watched();
      const download = downloads.start({ source: upstream.source, first: 0 });
      const opening = download.open().catch(() => undefined);
      for (let moment = 0; moment < moments; moment++) await Promise.resolve();
      download.cancel(new Error("the reader left"));
      await opening;
      await settled();
      expect([moments, upstream.cancelled]).toEqual([moments, 1]);
    }
  });

  test("asks nothing once it was left", async () => {
    const upstream = watched();
    const download = downloads.start({ source: upstream.source, first: 0 });
    download.cancel(new Error("the reader left"));
    await expect(download.open()).rejects.toThrow("the reader left");
    await expect(download.next()).rejects.toThrow("the reader left");
    expect(upstream.asked).toEqual([]);
  });

  test.each([
    [0, 0],
    [0, 199_999],
    [0, 500_000],
    [199_999, 199_999],
    [199_999, 500_000],
    [150_000, 170_000],
    [200_000, undefined],
  ])("gives bytes %d to %p, and no more than there are", async (first, last) => {
    const upstream = watched();
    for (const totalBytes of [content.byteLength, undefined]) {
      if (totalBytes === undefined && first === content.byteLength) continue; // refused with 416
      const download = downloads.start({ source: upstream.source, first, last, totalBytes });
      const end = Math.min(content.byteLength, (last ?? Infinity) + 1);
      expect((await readAll(download)).equals(content.subarray(first, end))).toBe(true);
      expect(await download.next()).toBe(undefined);
    }
  });

  test("knows the length as soon as an answer tells it", async () => {
    const upstream = watched((_wanted, turn) => (turn === 0 ? { totalBytes: undefined } : {}));
    const download = downloads.start({ source: upstream.source, first: 0 });
    await download.next();
    expect(download.totalBytes).toBe(undefined);
    const other = downloads.start({ source: upstream.source, first: 0 });
    await other.next();
    expect(other.totalBytes).toBe(content.byteLength);
    for (const begun of [download, other]) begun.cancel(new Error("seen"));
  });
});

test("Download.next() ends with a silence that nobody waits through, whoever noticed it", async () => {
  const downloads = createDownloads({ idleTimeoutMs: 60_000 }, { sleep: async () => undefined });
  for (const isWanted of [true, false]) {
    let asked = 0;
    const source: ContentSource = async () => {
      asked += 1;
      const silence = new UpstreamError("timeout", "no byte within 60000 ms");
      const body = new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(silence) });
      return { body, offset: 0, totalBytes: 10 };
    };
    const download = downloads.start({ source, first: 0, isWanted: () => isWanted });
    await expect(download.next()).rejects.toThrow("no byte within");
    expect(asked).toBe(isWanted ? 6 : 1);
  }
});

test("watchIdle() tells why a connection ended, and takes what fails then", async () => {
  const connection = new AbortController();
  connection.abort(new Error("the reader left"));
  const idle = watchIdle(60_000, connection);
  await expect(idle.watch(Promise.reject(new Error("broken")))).rejects.toThrow("the reader left");
  await settled(); // an unhandled rejection fails the test
});
