/**
 * Clients of one blob, each a curl of its own: on loopback it costs as little as a loop of recv (0.4 s a GB, the copy), and
 * is a real client. TLS is 1.3 with AES-128-GCM at all of them, over HTTP/1.1.
 */
import type { MeasuredProcess } from "../process.ts";
import type { Blob } from "./content.ts";

export interface Transfer {
  readonly seconds: number;
  /** 10^6 bytes a second, all clients together. */
  readonly megabytesPerSecond: number;
  /** Of the server. */
  readonly cpuSecondsPerGigabyte: number;
  /** Clients that did not get all of it within the limit. */
  readonly unfinished: number;
}

export interface TransferOptions {
  readonly clients: number;
  /** For `https`. */
  readonly certFile: string;
  /** After this a client gives up; default: a minute, and then the whole measurement fails. */
  readonly maxSeconds?: number;
}

const CIPHER = ["--http1.1", "--tlsv1.3", "--tls13-ciphers", "TLS_AES_128_GCM_SHA256"];
const MAX_SECONDS = 60;
/** curl's exit code for `--max-time`. */
const TIMED_OUT = 28;

export function blobPath(blob: Blob): string {
  return `/v2/bench/app/blobs/${blob.digest}`;
}

/** @throws Error when a client did not get all of it: a server that fails fast is not a fast server */
export async function transfer(server: MeasuredProcess, blob: Blob, options: TransferOptions): Promise<Transfer> {
  const { clients, certFile, maxSeconds = MAX_SECONDS } = options;
  const limits = ["--max-time", String(maxSeconds), "--cacert", certFile, ...CIPHER];
  const command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", ...limits];
  const cpuBefore = server.cpuSeconds();
  const startedAt = performance.now();
  const curls = Array.from({ length: clients }, () =>
    Bun.spawn([...command, `${server.url}${blobPath(blob)}`], { stdout: "pipe" }),
  );
  const codes = await Promise.all(curls.map((curl) => curl.exited));
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuSeconds = server.cpuSeconds() - cpuBefore;
  const unfinished = codes.filter((code) => code === TIMED_OUT).length;
  if (unfinished > 0 && options.maxSeconds === undefined) throw new Error(`${server.url}: no end in ${MAX_SECONDS} s`);
  for (const [index, curl] of curls.entries()) {
    const said = await new Response(curl.stdout).text();
    if (codes[index] !== TIMED_OUT && said !== `200 ${blob.bytes}`)
      throw new Error(
        `expected 200 and ${blob.bytes} bytes from ${server.url}, got ${said}, exit code ${codes[index]}`,
      );
  }
  const gigabytes = (clients * blob.bytes) / 1e9;
  return {
    seconds,
    megabytesPerSecond: (gigabytes * 1000) / seconds,
    cpuSecondsPerGigabyte: cpuSeconds / gigabytes,
    unfinished,
  };
}
