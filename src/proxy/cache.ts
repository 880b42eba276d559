/**
 * What a pull needs of the cache, in one value, and the few operations that both manifests and blobs use. A failure of the
 * cache never fails a pull: it is logged once in a while, and the pull goes on as if there were none.
 */
import type { HeaderLine } from "../errors.ts";
import type { Fills } from "../cache/fill.ts";
import type { Place, Records } from "../cache/records.ts";
import type { SparingLog } from "../cache/sparing-log.ts";
import { type ContentReader, type Store, StoreError } from "../cache/store.ts";
import type { Digest } from "../registry/digest.ts";
import type { Registry, Upstream } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { Reader, RegistryRequest } from "./access.ts";
import { digestOf } from "./body.ts";
import type { CompatLines } from "./compat-headers.ts";
import type { CacheState } from "./exchange.ts";
import type { Outages } from "./outage.ts";

export interface Cache {
  readonly store: Store;
  readonly records: Records;
  readonly fills: Fills;
  readonly outages: Outages;
  /** How long a tag is served without asking upstream, milliseconds. */
  readonly tagTtlMs: (registry: Registry, tag: string) => number;
  /** Whether the registry's accounts have few pulls left: tags are then asked for less often. */
  readonly isShort: (registry: Registry) => boolean;
  /** How long after its time a tag is served on when upstream cannot be asked, milliseconds (RFC 5861). */
  readonly staleIfErrorMs: number;
  /** How long an accepted credential's grant holds, milliseconds. */
  readonly grantTtlMs: number;
  /** Header lines of an older tool, where its users are (compat C16). */
  readonly compatLines: CompatLines | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** 0 ≤ x < 1, not to be foreseen. */
  readonly random: () => number;
  readonly log: SparingLog;
}

/** Where the links and tags are kept that everybody was shown: by the registry's first upstream, not by its key, which a new map may move. */
export function placeOf({ registry, repository }: Pick<Route, "registry" | "repository">): Place {
  return { registry: textOf(registry.upstreams[0]), repository };
}

/**
 * Where it is kept what a reader was shown. What somebody's credential was shown is kept apart from what everybody was, by the
 * origin that the credential is for: another upstream may have a repository of that name, and a grant that it gives to everybody
 * must open nothing of the credential's.
 */
export function placeFor({ route, reader }: { readonly route: Route; readonly reader: Reader }): Place {
  if (reader.kind === "everybody") return placeOf(route);
  return { registry: heldText(route.registry, reader.origin), repository: route.repository };
}

/** Everywhere where something of a route may be kept, what is everybody's first. */
export function placesOf({ registry, repository }: Pick<Route, "registry" | "repository">): Place[] {
  return registryTexts(registry).map((text) => ({ registry: text, repository }));
}

/** A registry as Places name it. */
export function registryTexts(registry: Registry): string[] {
  const origins = new Set(registry.upstreams.map(({ origin }) => origin));
  return [textOf(registry.upstreams[0]), ...[...origins].map((origin) => heldText(registry, origin))];
}

function heldText({ upstreams }: Registry, origin: string): string {
  return `${textOf(upstreams.find((upstream) => upstream.origin === origin) ?? upstreams[0])}#login`;
}

function textOf({ origin, basePath, namePrefix }: Upstream): string {
  return `${origin}${basePath}/${namePrefix}`;
}

/**
 * `X-Cache` for people and older tools (compat C35), `Cache-Status` as RFC 9211 has it, docker-registry-proxy's lines where
 * they are wanted; and the state into the access line.
 */
export function stateLines({ compatLines }: Cache, request: RegistryRequest, state: CacheState): HeaderLine[] {
  const shown = state === "EXPIRED" ? "MISS" : state;
  request.exchange.notes.cache = shown;
  return [
    ["X-Cache", shown],
    ["Cache-Status", `Layover; ${CACHE_STATUS[state]}`],
    ...(compatLines?.(request, state) ?? []),
  ];
}

const CACHE_STATUS: Record<CacheState, string> = {
  HIT: "hit",
  MISS: "fwd=uri-miss; stored",
  EXPIRED: "fwd=stale; stored",
  STALE: "hit; fwd=stale; detail=upstream-failed",
  REVALIDATED: "hit; fwd=stale; detail=unchanged",
  BYPASS: "fwd=bypass",
};

/**
 * The whole of small content; undefined when it is not there, cannot be read, or is not what it was: then it is moved aside.
 */
export async function readKept({ store, log }: Cache, digest: Digest): Promise<Uint8Array | undefined> {
  try {
    const reader = await store.open(digest);
    if (reader?.verified !== undefined) return reader.verified; // from memory: there is nothing to close
    const bytes = reader === undefined ? undefined : await readWhole(reader);
    if (bytes === undefined || digestOf(bytes, digest.algorithm) === digest.text) return bytes;
    await store.verify(digest, new AbortController().signal);
  } catch (error) {
    log.warn({ digest: digest.text, err: error }, "cached content cannot be read: asking upstream");
  }
  return undefined;
}

async function readWhole(reader: ContentReader): Promise<Uint8Array | undefined> {
  try {
    const bytes = new Uint8Array(reader.bytes);
    for (let at = 0; at < bytes.byteLength;) {
      const read = await reader.read(bytes.subarray(at), at);
      if (read === 0) return undefined;
      at += read;
    }
    return bytes;
  } finally {
    await reader.close();
  }
}

/** Keeps small content that was verified already; false when the store could not. */
export async function keep({ store, log }: Cache, digest: Digest, bytes: Uint8Array): Promise<boolean> {
  try {
    if ((await store.find(digest)) !== undefined) return true;
    const spool = await store.spool(digest, bytes.byteLength);
    try {
      if (spool.length < bytes.byteLength) await spool.append(bytes.subarray(spool.length));
      await spool.commit();
    } catch (error) {
      await spool.discard();
      throw error;
    }
    return true;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    log.warn({ digest: digest.text, reason: error.message }, "content is not kept");
    return false;
  }
}

/** The request as something that outlives its client asks it: with a deadline of its own and another end. */
export function detached<R extends RegistryRequest>(request: R, signal: AbortSignal, budgetMs: number): R {
  return { ...request, exchange: { ...request.exchange, signal }, deadlineMs: performance.now() + budgetMs };
}

/** The same for one more connection than is needed, of which the access line says nothing. */
export function unnoted<R extends RegistryRequest>(request: R): R {
  return { ...request, exchange: { ...request.exchange, notes: {} } };
}
