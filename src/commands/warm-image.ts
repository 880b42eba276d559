/**
 * Pulls one image through a Layover so that it is kept there: tag → index → manifests of the platforms → blobs. What is
 * kept already is a hit and not read again, so a second run goes on where the first ended.
 */
import type { ImageName } from "../registry/image.ts";
import { DEFAULT_ACCEPT } from "../registry/mediatype.ts";
import { referenceText } from "../registry/reference.ts";
import { parseDigest } from "../registry/digest.ts";
import { fits, platformText, type Platform, type Platforms } from "./platform.ts";

export interface WarmImageDependencies {
  /** GET of a path of the Layover. */
  ask(path: string, headers: Record<string, string>): Promise<Response>;
  /** Runs when a transfer may begin: bounds how many run at once over all images. */
  takeTurn<T>(transfer: () => Promise<T>): Promise<T>;
  /** How far it is; called often. */
  progress(doneBytes: number, totalBytes: number): void;
}

export interface Warmed {
  /** Bytes that came from the registry now. */
  readonly fetchedBytes: number;
  /** Bytes that were kept already. */
  readonly keptBytes: number;
}

/** It could not be warmed; the message says why in one line. */
export class WarmError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "WarmError";
  }
}

interface Descriptor {
  readonly digest: string;
  readonly bytes: number;
  readonly platform: Platform | undefined;
}

interface Manifest {
  /** Of an index; undefined for a manifest. */
  readonly members: readonly Descriptor[] | undefined;
  readonly blobs: readonly Descriptor[];
}

/** Indexes inside indexes: one is in use, more are a circle. */
const MAX_DEPTH = 3;
/** A transfer that broke goes on where it stopped: the Layover keeps what came. */
const TRIES = 3;

/** @throws WarmError */
export async function warmImage(
  image: ImageName,
  platforms: Platforms,
  dependencies: WarmImageDependencies,
): Promise<Warmed> {
  const { ask, takeTurn, progress } = dependencies;
  const base = `/v2/${image.name}`;
  const blobs = new Map<string, Descriptor>();
  await collect(referenceText(image.reference), 0);
  const totalBytes = [...blobs.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  let [fetchedBytes, keptBytes] = [0, 0];
  const tell = () => progress(fetchedBytes + keptBytes, totalBytes);
  tell();
  const transfers = [...blobs.values()].map((blob) => takeTurn(() => pullBlob(blob)));
  const results = await Promise.allSettled(transfers);
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  return { fetchedBytes, keptBytes };

  async function collect(reference: string, depth: number): Promise<void> {
    const manifest = await takeTurn(() => pullManifest(reference));
    for (const blob of manifest.blobs) blobs.set(blob.digest, blob);
    if (manifest.members === undefined) return;
    if (depth >= MAX_DEPTH) throw new WarmError("its indexes are nested too deeply");
    for (const { digest } of choose(manifest.members, platforms)) await collect(digest, depth + 1);
  }

  async function pullManifest(reference: string): Promise<Manifest> {
    const response = await ask(`${base}/manifests/${reference}`, { accept: DEFAULT_ACCEPT });
    const body = await response.text();
    if (response.status !== 200) throw new WarmError(reasonOf(response.status, body));
    expectKept(response);
    return readManifest(body);
  }

  async function pullBlob(blob: Descriptor): Promise<void> {
    for (let left = TRIES; ; left -= 1) {
      const before = fetchedBytes;
      try {
        return await pullBlobOnce(blob);
      } catch (error) {
        // What came so far comes as a hit of the running download at the next try.
        fetchedBytes = before;
        if (error instanceof WarmError) throw error;
        if (left <= 1) throw new WarmError(`${blob.digest}: the transfer broke`, { cause: error });
      }
    }
  }

  async function pullBlobOnce({ digest, bytes }: Descriptor): Promise<void> {
    const response = await ask(`${base}/blobs/${digest}`, {});
    if (response.status !== 200) throw new WarmError(`${digest}: ${reasonOf(response.status, await response.text())}`);
    if (response.headers.get("x-cache") === "HIT") {
      await response.body?.cancel();
      keptBytes += bytes;
      return tell();
    }
    expectKept(response);
    for await (const piece of response.body ?? []) {
      fetchedBytes += piece.byteLength;
      tell();
    }
  }
}

function expectKept(response: Response): void {
  const state = response.headers.get("x-cache");
  if (state === null) throw new WarmError("this Layover keeps nothing: it runs without --cache-dir");
  if (state === "BYPASS")
    throw new WarmError("it passes without being kept: it is not public, or the cache cannot be written now");
}

function choose(members: readonly Descriptor[], platforms: Platforms): readonly Descriptor[] {
  if (platforms === "all") return members;
  const missing = platforms.filter(
    (asked) => !members.some(({ platform }) => platform !== undefined && fits(asked, platform)),
  );
  if (missing.length > 0) {
    const offered = members.flatMap(({ platform }) => (platform === undefined ? [] : [platformText(platform)]));
    const has = [...new Set(offered)].filter((text) => text !== "unknown/unknown").join(", ");
    throw new WarmError(`it has no ${missing.map(platformText).join(", ")}; it has ${has === "" ? "none" : has}`);
  }
  return members.filter(({ platform }) => platform !== undefined && platforms.some((asked) => fits(asked, platform)));
}

/** @throws WarmError */
function readManifest(text: string): Manifest {
  const document = recordOf(parsed(text));
  if (document === undefined) throw new WarmError("its manifest is no JSON");
  const list = (key: string) => {
    const value = document[key];
    return Array.isArray(value) ? value.flatMap(descriptorOf) : undefined;
  };
  const members = list("manifests");
  return { members, blobs: [...descriptorOf(document["config"]), ...(list("layers") ?? [])] };
}

/** None for what cannot be pulled here: foreign layers, which lie elsewhere (protocol R25), and what is no descriptor. */
function descriptorOf(value: unknown): Descriptor[] {
  const record = recordOf(value);
  const { digest, size, urls, platform } = record ?? {};
  if (typeof digest !== "string" || parseDigest(digest) === undefined || Array.isArray(urls)) return [];
  return [{ digest, bytes: typeof size === "number" ? size : 0, platform: platformOf(platform) }];
}

function platformOf(value: unknown): Platform | undefined {
  const { os, architecture, variant } = recordOf(value) ?? {};
  if (typeof os !== "string" || typeof architecture !== "string") return undefined;
  return { os, architecture, variant: typeof variant === "string" ? variant : undefined };
}

/** The registry's own words where it has some. */
function reasonOf(status: number, body: string): string {
  const errors = recordOf(parsed(body))?.["errors"];
  const message = Array.isArray(errors) ? recordOf(errors[0])?.["message"] : undefined;
  const login = status === 401 ? "it needs a login, and none is used here" : undefined;
  return login ?? `${status}${typeof message === "string" ? ` ${message}` : ""}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // not JSON: the caller says so
  }
}

function recordOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
}
