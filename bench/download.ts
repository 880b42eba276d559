/** One blob to one client, and what it cost the server. curl writes nothing anywhere and takes as fast as it is given. */
import { BLOB_BYTES } from "./lab.ts";
import { type Sample, sampleOf } from "./numbers.ts";
import type { MeasuredProcess } from "./process.ts";

export interface Download {
  /** 10^6 bytes a second. */
  readonly megabytesPerSecond: number;
  /** Of the server. */
  readonly cpuSeconds: number;
}

/** @throws Error when it was not all of it: a server that fails fast is not a fast server */
export async function download(
  server: MeasuredProcess,
  { path, range }: { path: string; range: string | undefined },
): Promise<Download> {
  const before = server.cpuSeconds();
  const ranged = range === undefined ? [] : ["--range", range];
  const report = "%{http_code} %{size_download} %{time_total}";
  const command = ["curl", "-s", "-o", "/dev/null", "-w", report, ...ranged, `${server.url}${path}`];
  const curl = Bun.spawn(command, { stdout: "pipe" });
  const [status, bytes, seconds] = (await new Response(curl.stdout).text()).split(" ").map(Number);
  const expected = range === undefined ? 200 : 206;
  if (status !== expected || bytes !== BLOB_BYTES || seconds === undefined)
    throw new Error(`expected ${expected} and ${BLOB_BYTES} bytes, got ${status} and ${bytes}`);
  return { megabytesPerSecond: BLOB_BYTES / 1e6 / seconds, cpuSeconds: server.cpuSeconds() - before };
}

export function speedOf(downloads: readonly Download[]): Sample {
  return sampleOf(downloads.map(({ megabytesPerSecond }) => megabytesPerSecond));
}

export function cpuOf(downloads: readonly Download[]): Sample {
  return sampleOf(downloads.map(({ cpuSeconds }) => cpuSeconds));
}
