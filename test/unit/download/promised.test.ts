/** Content that somebody was told will come: opening it is tried again like what breaks in the middle (lesson T4). */
import { describe, expect, test } from "bun:test";
import { createDownloads } from "../../../src/download/downloads.ts";
import { RegistryError } from "../../../src/errors.ts";

const BUSY = new RegistryError("UNAVAILABLE", "no answer in time", { status: 503 });
const GONE = new RegistryError("BLOB_UNKNOWN", "not there", { status: 404 });

/** What `open` ends with when the upstream answers so, and how often it was asked. */
async function opened(errors: readonly RegistryError[], isPromised: (asked: number) => boolean, waits: number[] = []) {
  let asked = 0;
  const sleep = async (ms: number) => void waits.push(ms);
  const downloads = createDownloads({ idleTimeoutMs: 60_000 }, { sleep, random: () => 0 });
  const download = downloads.start({
    first: 0,
    isPromised: () => isPromised(asked),
    source: async () => {
      const error = errors[asked++];
      if (error !== undefined) throw error;
      return { body: new Blob(["abc"]).stream(), offset: 0, totalBytes: 3 };
    },
  });
  const outcome = await download.open().then(
    () => download.totalBytes,
    (error: unknown) => (error instanceof RegistryError ? error.status : error),
  );
  download.cancel(new Error("seen"));
  return { outcome, asked };
}

describe("Download.open()", () => {
  const always = (): boolean => true;
  const never = (): boolean => false;

  test("[T4] asks again when it was promised", async () => {
    expect(await opened([BUSY, BUSY], always)).toEqual({ outcome: 3, asked: 3 });
  });

  test("[T4] gives up after five tries", async () => {
    expect(await opened(Array(9).fill(BUSY), always)).toEqual({ outcome: 503, asked: 6 });
  });

  test("[T4] takes a definite answer for an answer", async () => {
    expect(await opened([BUSY, GONE], always)).toEqual({ outcome: 404, asked: 2 });
  });

  test("[R211] waits as long as a registry that is known dead says, or gives up where that is long", async () => {
    const deadFor = (seconds: string) =>
      new RegistryError("UNAVAILABLE", "known dead", { headers: [["Retry-After", seconds]] });
    const waits: number[] = [];
    expect(await opened([BUSY, deadFor("5"), deadFor("10")], always, waits)).toEqual({ outcome: 3, asked: 4 });
    expect(waits).toEqual([100, 5_000, 10_000]);
    expect(await opened([deadFor("11")], always)).toEqual({ outcome: 503, asked: 1 });
  });

  test("tells what the source threw when nothing was promised, or nobody waits any more", async () => {
    expect(await opened([BUSY], never)).toEqual({ outcome: 503, asked: 1 });
    expect(await opened([BUSY, BUSY, BUSY], (asked) => asked < 2)).toEqual({ outcome: 503, asked: 2 });
  });
});
