/**
 * What tests of the cache share: a farm with a cache directory of its own that can be stopped, killed and started again on
 * the same directory and registries, and what lies in that directory.
 */
import { Database } from "bun:sqlite";
import { createHash } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { type Farm, type FarmOptions, layerOf, startFarm } from "./farm.ts";
import { type Image, digestOf, makeImage } from "./images.ts";
import { type RunningLayover, startLayover } from "./layover.ts";
import { type TempDir, createTempDir } from "./temp-dir.ts";

export interface Cached extends AsyncDisposable {
  readonly farm: Farm;
  /** The program that runs now; `farm.layover` is the first one. */
  readonly layover: RunningLayover;
  readonly directory: string;
  /** An image that nobody pulled before, in a public repository of quay. */
  fresh(layers?: number[]): Fresh;
  pull(path: string, headers?: Record<string, string>): Promise<Pulled>;
  ask(path: string, init?: RequestInit): Promise<Response>;
  /** Starts the program anew on the same directory and the same registries; the one before must have ended. */
  restart(): Promise<void>;
}

export interface Fresh {
  readonly image: Image;
  readonly layer: string;
  readonly bytes: Uint8Array;
  readonly repository: string;
  /** `/v2/quay/<repository>` */
  readonly path: string;
}

export interface Pulled {
  readonly status: number;
  readonly cache: string | null;
  readonly headers: Headers;
  readonly body: Uint8Array;
}

export interface CachedOptions extends FarmOptions {
  /** A directory that exists, instead of one of our own. */
  readonly directory?: string;
  /** Put into the names of images, so that two tests never mean one content. */
  readonly seed: string;
  /** False runs it without a cache, for what must hold in both ways. Default true. */
  readonly isCached?: boolean;
}

export async function startCached(options: CachedOptions): Promise<Cached> {
  const own: TempDir | undefined = options.directory === undefined ? await createTempDir("layover-cache-") : undefined;
  const directory = options.directory ?? path.join(own?.path ?? "", "cache");
  const cacheArgs = options.isCached === false ? [] : ["--cache-dir", directory, "--cache-min-free", "0"];
  const args = [...cacheArgs, ...(options.args ?? [])];
  const farm = await startFarm({ ...options, args });
  let layover = farm.layover;
  let isFirst = true;
  let images = 0;

  async function ask(target: string, init: RequestInit = {}): Promise<Response> {
    const headers = { accept: ACCEPT, ...(init.headers as Record<string, string> | undefined) };
    return fetch(`${layover.url}${target}`, { redirect: "manual", decompress: false, ...init, headers });
  }

  return {
    farm,
    directory,
    get layover() {
      return layover;
    },
    fresh(layers = [200_000]) {
      images += 1;
      const repository = `org/${options.seed}${images}`;
      const image = makeImage({ seed: repository, layers });
      farm.quay.add(repository, image);
      const layer = layerOf(image);
      return {
        image,
        layer,
        bytes: image.blobs.get(layer) ?? new Uint8Array(),
        repository,
        path: `/v2/quay/${repository}`,
      };
    },
    ask,
    async pull(target, headers = {}) {
      const answer = await ask(target, { headers });
      const body = new Uint8Array(await answer.arrayBuffer());
      return { status: answer.status, cache: answer.headers.get("x-cache"), headers: answer.headers, body };
    },
    async restart() {
      isFirst = false;
      const entry = (url: string, host: string, more: object = {}) => ({ upstreams: [url], hosts: [host], ...more });
      const mirror = options.mirrors?.["ghcr"];
      const ghcr = mirror === undefined ? {} : { upstreams: [farm.ghcr.url, mirror] };
      const map = {
        default: "hub",
        hub: entry(farm.hub.url, "docker.io", options.entries?.["hub"]),
        quay: entry(farm.quay.url, "quay.io", options.entries?.["quay"]),
        ghcr: { ...entry(farm.ghcr.url, "ghcr.io", options.entries?.["ghcr"]), ...ghcr },
      };
      layover = await startLayover({ map, args, ...(options.env && { env: options.env }) });
    },
    async [Symbol.asyncDispose]() {
      if (isFirst) await farm.stop();
      else {
        await layover.stop();
        await Promise.all([farm.hub, farm.quay, farm.ghcr, farm.basic].map((registry) => registry.close()));
      }
      await own?.remove();
    },
  };
}

const ACCEPT = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "*/*",
].join(", ");

/** The digests of what is committed. @throws Error when a file is not what its name says */
export async function keptIn(directory: string): Promise<string[]> {
  const folder = path.join(directory, "blobs/sha256");
  const digests = [];
  for (const name of await readdir(folder)) {
    const digest = digestOf(new Uint8Array(await Bun.file(path.join(folder, name)).arrayBuffer()));
    if (digest !== `sha256:${name}`) throw new Error(`expected sha256:${name}, got ${digest}`);
    digests.push(digest);
  }
  return digests;
}

/** Files of half downloads, and their bytes. */
export async function spoolsIn(directory: string): Promise<{ name: string; bytes: number }[]> {
  const folder = path.join(directory, "spool");
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const files = names.filter((name) => path.basename(name).startsWith("sha"));
  return Promise.all(files.map(async (name) => ({ name, bytes: (await stat(path.join(folder, name))).size })));
}

/** As if the grants had been given so long ago. The program must not run. */
export function ageGrants(directory: string, byMs: number): void {
  using records = new Database(path.join(directory, "records.sqlite"));
  records.run("UPDATE grants SET checkedMs = checkedMs - ?", [byMs]);
}

/** Reads an answer without keeping it. @param seen called with the bytes so far */
export async function drain(
  answer: Response,
  seen: (bytes: number) => void = () => undefined,
): Promise<{ bytes: number; digest: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of answer.body ?? []) {
    hash.update(piece);
    bytes += piece.byteLength;
    seen(bytes);
  }
  return { bytes, digest: `sha256:${hash.digest("hex")}` };
}

/** The most memory that the process ever had, MiB. */
export async function peakMiB({ pid }: RunningLayover): Promise<number> {
  const status = await Bun.file(`/proc/${pid}/status`).text();
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}

/** Memory now, MiB. */
export async function residentMiB({ pid }: RunningLayover): Promise<number> {
  const status = await Bun.file(`/proc/${pid}/status`).text();
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}
