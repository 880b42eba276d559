/**
 * Writes, passed through to the one upstream they are for: uploads in every form, manifests, deletions (protocol R65–R82).
 * Bodies stream, nothing is sent twice, and what the cache knows of a tag or digest that changes is forgotten at once.
 *
 *     POST uploads ──▶ Location, sealed ──▶ PATCH … PATCH ──▶ PUT ?digest=      one upstream throughout
 *     PUT, DELETE of manifests; DELETE of blobs
 */
import { type HeaderLine, RegistryError, UpstreamError } from "../errors.ts";
import { isServed } from "../registry/pattern.ts";
import { referenceText } from "../registry/reference.ts";
import type { Registry, RegistryMap, Upstream } from "../registry/registry.ts";
import { scopeWithin } from "../registry/route.ts";
import type { OutgoingBody, UpstreamClient, UpstreamWrite, WriteResponse } from "../upstream/client.ts";
import type { Access, RegistryRequest } from "./access.ts";
import { readBounded } from "./body.ts";
import type { Exchange, Reply } from "./exchange.ts";
import { blobUrl, manifestUrl, pushReply } from "./push-reply.ts";
import { errorOfFailure } from "./refusal.ts";
import { type UploadLocations, nameAt } from "./upload-location.ts";
import { viaLine } from "./via.ts";

export interface PushOptions {
  /** Every registry takes writes; without it those whose map entry says so. */
  readonly allowPush: boolean;
  /** Our name in `Via`. */
  readonly pseudonym: string;
}

export interface PushDependencies {
  readonly access: Access;
  readonly upstream: UpstreamClient;
  readonly locations: UploadLocations;
  readonly map: () => RegistryMap;
  /** What a client was told of this repository's tags and digests may not be so any more. */
  readonly changed: (request: RegistryRequest, change: Change, outcome: Outcome) => void;
}

/** `unknown`: the registry may have taken it and could not say so. */
export type Outcome = "done" | "unknown";

/** What a write did to a repository. */
export type Change =
  | { readonly kind: "tags"; readonly tags: readonly string[] }
  | { readonly kind: "digest-gone"; readonly digest: string };

export interface Push {
  isAllowed(registry: Registry): boolean;
  /** @throws RegistryError UNSUPPORTED for a method that this endpoint does not have, UNAUTHORIZED, DENIED, SIZE_INVALID, UNAVAILABLE */
  serve(request: RegistryRequest): Promise<Reply>;
}

/** Registries accept at least 4 MiB (protocol R45). */
const MAX_MANIFEST_BYTES = 8 * 1024 * 1024;
/** The last request of an upload makes the registry hash or move the layer (protocol R80). */
const FINISH_MS = 5 * 60_000;

export function createPush(
  options: PushOptions,
  { access, upstream, locations, map, changed }: PushDependencies,
): Push {
  async function send(request: RegistryRequest, step: Step): Promise<WriteResponse> {
    const { exchange, route } = request;
    const identity = await access.writerOf(request);
    const origin = identity.kind === "credential" ? identity.credential.origin : undefined;
    const at =
      step.upstream ?? route.registry.upstreams.find((one) => one.origin === origin) ?? route.registry.upstreams[0];
    const name = nameAt(at, route.repository);
    try {
      return await upstream.write({
        registry: route.registry,
        upstream: at,
        method: step.method,
        target: step.target(at, name),
        headers: writeHeaders(exchange),
        ...(step.body !== undefined && { body: step.body }),
        identity,
        scopes: [
          `repository:${name}:${step.method === "DELETE" ? "delete" : "pull,push"}`,
          ...(step.from === undefined ? [] : [`repository:${nameAt(at, step.from)}:pull`]),
        ],
        signal: exchange.signal,
        deadlineMs: step.mayTakeLong === true ? performance.now() + FINISH_MS : request.deadlineMs,
        via: viaLine(exchange.headers.get("via"), options.pseudonym),
      });
    } catch (error) {
      if (error instanceof UpstreamError) throw errorOfFailure(error);
      throw error;
    }
  }

  /** What was refused changed nothing: else anybody could make us forget what we know. */
  async function sendChange(request: RegistryRequest, step: Step, change: Change): Promise<WriteResponse> {
    try {
      const response = await send(request, step);
      if (response.status < 400) changed(request, change, "done");
      else if (response.status >= 500) changed(request, change, "unknown");
      return response;
    } catch (error) {
      changed(request, change, "unknown");
      throw error;
    }
  }

  /** Begins an upload, mounts a blob of another repository, or takes a whole one. */
  async function begin(request: RegistryRequest): Promise<Reply> {
    const { exchange } = request;
    const query = new URLSearchParams(exchange.query);
    const mount = mountOf(request, query);
    const response = await send(request, {
      method: "POST",
      target: (at, name) => ({ kind: "path", path: `${name}/blobs/uploads/${beginQuery(query, mount, at)}` }),
      body: bodyOf(exchange) ?? EMPTY,
      ...(mount?.from !== undefined && { from: mount.from }),
    });
    return answer(request, response, blobUrl(request, query.get("digest") ?? query.get("mount")));
  }

  function mountOf(request: RegistryRequest, query: URLSearchParams): Mount | undefined {
    const digest = query.get("mount");
    const from = query.get("from");
    if (digest === null) return undefined;
    // Without a source the registry looks in everything the credential may read: only who owns it may ask that.
    const { client } = request;
    const bounds = client.kind === "user" || client.kind === "own" ? client.may : undefined;
    if (from === null) return client.kind === "own" && bounds === undefined ? { digest, from: undefined } : undefined;
    const source = scopeWithin(request.route.registry, from, map());
    if (source === undefined || !isServed(source.registry, source.repository)) return undefined;
    return bounds?.("pull", source) === false ? undefined : { digest, from: source.repository };
  }

  /** The next steps of an upload: a piece, the end, how far it got, or giving it up. */
  async function goOn(request: RegistryRequest, session: string): Promise<Reply> {
    const { exchange } = request;
    const known = locations.read(request, session);
    if (known === undefined) throw new RegistryError("BLOB_UPLOAD_UNKNOWN", "no such upload: begin it again");
    const { upstream: at, location } = known;
    const method = exchange.method === "GET" || exchange.method === "HEAD" ? "GET" : writeMethod(exchange);
    const response = await send(request, {
      method,
      upstream: at,
      target: () => ({ kind: "location", href: withQuery(location.href, exchange.query), named: location.named }),
      ...(method === "PATCH" || method === "PUT" ? { body: bodyOf(exchange) ?? EMPTY } : {}),
      mayTakeLong: method === "PUT",
    });
    return answer(request, response, blobUrl(request, new URLSearchParams(exchange.query).get("digest")));
  }

  async function putManifest(request: RegistryRequest, reference: string): Promise<Reply> {
    const { exchange } = request;
    const bytes = await manifestOf(exchange);
    const query = queryWithoutNamespace(exchange.query);
    const tags = [
      ...(reference.includes(":") ? [] : [reference]),
      ...new URLSearchParams(exchange.query).getAll("tag"),
    ];
    const step: Step = {
      method: "PUT",
      target: (_, name) => ({ kind: "path", path: `${name}/manifests/${reference}${query === "" ? "" : `?${query}`}` }),
      body: { kind: "whole", bytes },
      mayTakeLong: true,
    };
    const response = await sendChange(request, step, { kind: "tags", tags });
    return answer(request, response, manifestUrl(request, response, reference));
  }

  async function remove(request: RegistryRequest, path: string, change: Change): Promise<Reply> {
    const step: Step = { method: "DELETE", target: (_, name) => ({ kind: "path", path: `${name}/${path}` }) };
    const response = await sendChange(request, step, change);
    return answer(request, response, undefined);
  }

  async function answer(request: RegistryRequest, response: WriteResponse, made: string | undefined): Promise<Reply> {
    const { status, location, upstream: at } = response;
    // What was made can be pulled here; an upload that goes on does so under its sealed name (protocol R67, R74).
    const next = location === undefined ? undefined : locations.emit(request, at, location);
    const isDone = status === 201;
    const mustGoOn = status === 202 && request.endpoint.kind === "upload" && request.exchange.method !== "DELETE";
    if (mustGoOn && next === undefined) {
      await response.body?.cancel();
      throw new RegistryError("UNAVAILABLE", "the registry did not say where the upload goes on", { status: 502 });
    }
    return pushReply(access, request, { response, location: isDone ? (made ?? next) : next });
  }

  return {
    isAllowed: (registry) => options.allowPush || registry.push,
    async serve(request) {
      const { endpoint, exchange } = request;
      const { method } = exchange;
      if (endpoint.kind === "upload") {
        if (endpoint.session === undefined && method === "POST") return begin(request);
        if (endpoint.session !== undefined && method !== "POST") return goOn(request, endpoint.session);
      }
      if (endpoint.kind === "manifest") {
        const reference = referenceText(endpoint.reference);
        const change: Change =
          endpoint.reference.kind === "tag"
            ? { kind: "tags", tags: [endpoint.reference.tag] }
            : { kind: "digest-gone", digest: endpoint.reference.digest.text };
        if (method === "PUT") return putManifest(request, reference);
        if (method === "DELETE") return remove(request, `manifests/${reference}`, change);
      }
      if (endpoint.kind === "blob" && method === "DELETE") {
        const { text } = endpoint.digest;
        return remove(request, `blobs/${text}`, { kind: "digest-gone", digest: text });
      }
      throw new RegistryError("UNSUPPORTED", "this cannot be written in this way", {
        headers: [["Allow", "GET, HEAD"]],
      });
    },
  };
}

/** One request of a push, before its upstream is known. */
interface Step {
  readonly method: UpstreamWrite["method"];
  readonly target: (upstream: Upstream, name: string) => UpstreamWrite["target"];
  /** Where an upload that was begun goes on; else the credential's upstream, or the first. */
  readonly upstream?: Upstream;
  readonly body?: OutgoingBody;
  /** Repository to mount from, as the registry calls it. */
  readonly from?: string;
  readonly mayTakeLong?: boolean;
}

interface Mount {
  readonly digest: string;
  readonly from: string | undefined;
}

const EMPTY: OutgoingBody = { kind: "whole", bytes: new Uint8Array() };

/** Client headers that leave with a write. The range of a piece has no unit (protocol R70). */
function writeHeaders({ headers }: Exchange): HeaderLine[] {
  const lines: HeaderLine[] = [];
  for (const name of ["Content-Type", "Content-Range", "Range"]) {
    const value = headers.get(name);
    if (value !== null) lines.push([name, value]);
  }
  return lines;
}

function bodyOf({ body, headers }: Exchange): OutgoingBody | undefined {
  if (body === null) return undefined;
  const length = headers.get("content-length");
  return { kind: "stream", stream: body, length: length === null ? undefined : Number(length) };
}

async function manifestOf({ body }: Exchange): Promise<Uint8Array<ArrayBuffer>> {
  if (body === null) return new Uint8Array();
  try {
    return Uint8Array.from(await readBounded(body, MAX_MANIFEST_BYTES));
  } catch (cause) {
    const message = `expected a manifest of at most ${MAX_MANIFEST_BYTES} bytes`;
    throw new RegistryError("SIZE_INVALID", message, { status: 413, cause });
  }
}

function writeMethod({ method }: Exchange): "PATCH" | "PUT" | "DELETE" {
  if (method === "PATCH" || method === "PUT" || method === "DELETE") return method;
  throw new RegistryError("UNSUPPORTED", "an upload goes on with PATCH, PUT, GET or DELETE", {
    headers: [["Allow", "GET, PATCH, PUT, DELETE"]],
  });
}

/** The client's own parameters behind those of the Location, which stay as they are byte for byte (protocol R67). */
function withQuery(href: string, query: string): string {
  const own = queryWithoutNamespace(query);
  if (own === "") return href;
  return `${href}${href.includes("?") ? "&" : "?"}${own}`;
}

function queryWithoutNamespace(query: string): string {
  return query
    .split("&")
    .filter((part) => part !== "" && !part.startsWith("ns="))
    .join("&");
}

/** `from` is a repository as clients name it; the upstream gets its own name for it (protocol R75, R76). */
function beginQuery(asked: URLSearchParams, mount: Mount | undefined, at: Upstream): string {
  const left = [...asked].filter(([key]) => key !== "ns" && key !== "mount" && key !== "from");
  if (mount !== undefined) left.push(["mount", mount.digest]);
  if (mount?.from !== undefined) left.push(["from", nameAt(at, mount.from)]);
  return left.length === 0 ? "" : `?${new URLSearchParams(left).toString()}`;
}
