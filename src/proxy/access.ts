/**
 * May this client read this repository, and in whose name is the upstream asked? The upstream decides: a client is asked
 * for in its own name, or anonymously; configured credentials speak only for repositories that anybody may read, unless
 * the operator shares what is private. What the answer "no" looks like is decided here too, in one place (product section 5).
 */
import { LRUCache } from "lru-cache";
import { type HeaderLine, RegistryError, UpstreamError } from "../errors.ts";
import { formatBearerChallenge } from "../registry/challenge.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import { matchesAny } from "../registry/pattern.ts";
import type { ConfiguredCredential, Registry, Upstream } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { Credential, Identity, UpstreamClient, UpstreamRequest, UpstreamResponse } from "../upstream/client.ts";
import type { Client, SharedHost } from "./client.ts";
import type { Exchange } from "./exchange.ts";
import type { Origin } from "./origin.ts";
import { errorOfFailure } from "./refusal.ts";
import { rightToAsk } from "./users.ts";
import { viaLine } from "./via.ts";

/** One registry request, read once and carried all the way. */
export interface RegistryRequest {
  readonly exchange: Exchange;
  readonly origin: Origin;
  readonly endpoint: Endpoint;
  readonly route: Route;
  readonly client: Client;
  /** Whether the client's host stands for several registries. */
  readonly sharedHost: SharedHost;
  /** Moment on the `performance.now()` clock by which the client has its header block (protocol R174, R258). */
  readonly deadlineMs: number;
}

/** What is asked of the upstream, apart from who asks. */
export interface Question {
  readonly method: "GET" | "HEAD";
  /** `"manifests/latest"`, `"blobs/sha256:…"`, … */
  readonly path: string;
  readonly query: string;
  readonly headers: readonly HeaderLine[];
}

export interface AccessOptions {
  /** Serve what configured credentials can read to everybody. */
  readonly sharePrivate: boolean;
  /** Our name in `Via`. */
  readonly pseudonym: string;
}

export interface AccessDependencies {
  readonly upstream: UpstreamClient;
  /** The secret of a configured credential as it is now. @throws UpstreamError `token` when its source gives none */
  readonly credentialOf: (configured: ConfiguredCredential) => Promise<Credential>;
  /** A keyed hash: what names a holder in the records reveals no secret. */
  readonly fingerprint: (...parts: string[]) => string;
}

/** In whose name content is asked for, and shown from the cache. */
export type Reader =
  /** Anonymously, or with a configured credential where that is known to be public. */
  | { readonly kind: "everybody" }
  | {
      readonly kind: "holder";
      /** Names the holder in the records. */
      readonly holder: string;
      /** As it is now: some live for minutes only. */
      readonly credential: () => Promise<Credential>;
    };

export interface ReaderAnswer extends UpstreamResponse {
  /** Whether a 200 shows that the reader may read the repository: everybody's does when nobody's name was used. */
  readonly isProof: boolean;
}

export const EVERYBODY_READS: Reader = { kind: "everybody" };

export interface Access {
  /**
   * Asks the upstream in the right name. Gives any answer but a denial; the caller reads or cancels its body.
   * @throws RegistryError UNAUTHORIZED, NAME_UNKNOWN or DENIED when this client may not read this; UNAVAILABLE when the
   * upstream gave no answer
   */
  ask(request: RegistryRequest, question: Question): Promise<UpstreamResponse>;
  /**
   * Asks as this reader, or in nobody's name. Gives any answer, 401 and 403 too: they say that it may not read the repository.
   * @throws RegistryError UNAVAILABLE when the upstream gave no answer
   */
  askAs(reader: Reader | "nobody", request: RegistryRequest, question: Question): Promise<ReaderAnswer>;
  /** The client with the rights it has: its own credential, a configured one it may use, or those of everybody. */
  readerOf(request: Pick<RegistryRequest, "client" | "route">): Reader;
  /**
   * In whose name a write is sent: the client's own, a configured credential for a user with the right, else nobody's, and
   * the registry decides. `--share-private` is for reading.
   * @throws RegistryError DENIED for a user without the right; UNAVAILABLE when the credential cannot be had
   */
  writerOf(request: RegistryRequest): Promise<Identity>;
  /** The answer "no" for this client. */
  denial(request: RegistryRequest): RegistryError;
  /** The challenge that lets a client log in at the registry this request is about (protocol R117, R121, R164). */
  challenge(request: Challenged, error?: "invalid_token" | "insufficient_scope"): HeaderLine;
}

/** What a challenge is made of. */
export type Challenged = Pick<RegistryRequest, "origin" | "route" | "sharedHost"> & {
  readonly exchange: Pick<Exchange, "method">;
};

/** How long an anonymous 200 proves a repository public. */
const PUBLIC_TTL_MS = 15 * 60_000;
/** Enough for every repository of a busy farm; an entry is some 200 bytes. */
const MAX_PUBLIC = 20_000;

export function createAccess(options: AccessOptions, dependencies: AccessDependencies): Access {
  const { upstream, credentialOf, fingerprint } = dependencies;
  const isPublic = new LRUCache<string, true>({ max: MAX_PUBLIC, ttl: PUBLIC_TTL_MS });
  const holders = new WeakMap<ConfiguredCredential, string>();

  function readerOf({ client, route: { registry, repository } }: Pick<RegistryRequest, "client" | "route">): Reader {
    if (client.kind === "own") {
      const { credential } = client;
      return { kind: "holder", holder: `own ${credential.id}`, credential: () => Promise.resolve(credential) };
    }
    const configured = configuredCredential(registry, repository);
    const mayUse = configured !== undefined && (client.kind === "user" || options.sharePrivate);
    if (!mayUse) return EVERYBODY_READS;
    return { kind: "holder", holder: holderOf(configured), credential: () => credentialOf(configured) };
  }

  /** By what is configured and not by its secret, which a program may renew. */
  function holderOf(configured: ConfiguredCredential): string {
    const known = holders.get(configured);
    if (known !== undefined) return known;
    const holder = `configured ${fingerprint(JSON.stringify(configured))}`;
    holders.set(configured, holder);
    return holder;
  }

  async function identityOf(reader: Reader, { registry, repository }: Route): Promise<Identity> {
    if (reader.kind === "holder") return { kind: "credential", credential: await reader.credential() };
    const configured = configuredCredential(registry, repository);
    if (configured === undefined || !isPublicAt(configured.origin, registry, repository)) return ANONYMOUS;
    try {
      return { kind: "credential", credential: await credentialOf(configured) };
    } catch (error) {
      if (error instanceof UpstreamError) return ANONYMOUS; // what is public can be had without it
      throw error;
    }
  }

  /** At every upstream of the registry that would be shown the credential. */
  function isPublicAt(origin: string, registry: Registry, repository: string): boolean {
    const shown = registry.upstreams.filter((upstream) => upstream.origin === origin);
    return shown.every((upstream) => isPublic.has(publicKey(registry, upstream, repository)));
  }

  /**
   * The upstreams that may learn the repository's name. What is asked with a credential may be private, and then its name is
   * nobody's but that origin's; what was shown to be public may be asked anywhere.
   */
  function reachOf(identity: Identity, { registry, repository }: Route): NonNullable<UpstreamRequest["reach"]> {
    if (identity.kind === "anonymous") return "all";
    return isPublicAt(identity.credential.origin, registry, repository) ? "all" : "credential";
  }

  async function askAs(reader: Reader | "nobody", request: RegistryRequest, question: Question): Promise<ReaderAnswer> {
    const { exchange, route } = request;
    try {
      const identity = reader === "nobody" ? ANONYMOUS : await identityOf(reader, route);
      const response = await upstream.send({
        registry: route.registry,
        repository: route.repository,
        ...question,
        identity,
        reach: reachOf(identity, route),
        signal: exchange.signal,
        deadlineMs: request.deadlineMs,
        via: viaLine(exchange.headers.get("via"), options.pseudonym),
      });
      note(exchange, response);
      if (identity.kind === "anonymous" && response.status === 200 && question.path.startsWith("manifests/"))
        isPublic.set(publicKey(route.registry, response.upstream, route.repository), true);
      const isProof = identity.kind === "anonymous" || (reader !== "nobody" && reader.kind === "holder");
      return { ...response, isProof };
    } catch (error) {
      if (error instanceof UpstreamError) throw errorOfFailure(error);
      throw error;
    }
  }

  return {
    async ask(request, question) {
      const response = await askAs(readerOf(request), request, question);
      if (response.status !== 401 && response.status !== 403) return response;
      await response.body?.cancel();
      throw denial(request);
    },
    askAs,
    readerOf,
    async writerOf(request) {
      const { client, route, exchange, endpoint } = request;
      if (client.kind === "own") return { kind: "credential", credential: client.credential };
      if (client.kind !== "user") return ANONYMOUS;
      const mayWrite = client.may(rightToAsk(exchange.method, endpoint), route);
      if (!mayWrite) throw new RegistryError("DENIED", "you may not write to this repository");
      const configured = configuredCredential(route.registry, route.repository);
      if (configured === undefined) return ANONYMOUS;
      return { kind: "credential", credential: await credentialOf(configured).catch(failAsRefusal) };
    },
    denial,
    challenge,
  };
}

const ANONYMOUS: Identity = { kind: "anonymous" };

function failAsRefusal(error: unknown): never {
  throw error instanceof UpstreamError ? errorOfFailure(error) : error;
}

function isWrite({ method }: Pick<Exchange, "method">): boolean {
  return method !== "GET" && method !== "HEAD";
}

/**
 * The answer "no". Without credentials: how to log in. With a token for nobody: as if it were not there, so that mirrors
 * fall through and nothing is learnt about private names. With accepted credentials that lack the right: that it is denied.
 */
function denial(request: RegistryRequest): RegistryError {
  const { client, endpoint } = request;
  switch (client.kind) {
    case "none":
      return new RegistryError("UNAUTHORIZED", "log in to read this repository", { headers: [challenge(request)] });
    case "foreign":
      return new RegistryError("UNAUTHORIZED", "these credentials are for another registry: log in to this one", {
        headers: [challenge(request, "invalid_token")],
      });
    case "anonymous":
      if (isWrite(request.exchange))
        return new RegistryError("UNAUTHORIZED", "log in to write to this repository", {
          headers: [challenge(request, "insufficient_scope")],
        });
      // oras takes NAME_UNKNOWN on referrers for a hard error and anything else for "not supported" (protocol R35).
      if (endpoint.kind === "referrers")
        return new RegistryError("MANIFEST_UNKNOWN", "manifest unknown or not readable");
      return new RegistryError("NAME_UNKNOWN", "repository unknown or not readable without a login");
    case "own":
    case "user":
      return new RegistryError("DENIED", "the registry denies these credentials access to this repository");
  }
}

function challenge(
  { origin, route, sharedHost, exchange }: Challenged,
  error?: "invalid_token" | "insufficient_scope",
): HeaderLine {
  // The mark tells the token service that a plain user name on this host means the default registry, not this one.
  const mark = sharedHost === "shared" ? "?host=shared" : "";
  return [
    "WWW-Authenticate",
    formatBearerChallenge({
      realm: `${origin.base}/token/${route.registry.key}${mark}`,
      service: origin.host?.text ?? "layover",
      scope: `repository:${route.requested}:${isWrite(exchange) ? "pull,push" : "pull"}`,
      ...(error === undefined ? {} : { error }),
    }),
  ];
}

/** The configured credential for a repository: the longest pattern that matches; one without patterns is for all. */
function configuredCredential(registry: Registry, repository: string): ConfiguredCredential | undefined {
  let best: { configured: ConfiguredCredential; length: number } | undefined;
  for (const configured of registry.credentials) {
    const { repositories } = configured;
    const length = repositories.length === 0 ? 0 : longestMatch(repositories, repository);
    if (length === undefined || (best !== undefined && best.length >= length)) continue;
    best = { configured, length };
  }
  return best?.configured;
}

function longestMatch(patterns: readonly string[], repository: string): number | undefined {
  const lengths = patterns.filter((pattern) => matchesAny([pattern], repository)).map((pattern) => pattern.length);
  return lengths.length === 0 ? undefined : Math.max(...lengths);
}

/**
 * By upstream: what a mirror shows to everybody says nothing about the first upstream's repository of that name, and one origin
 * holds several projects, which registries of the map name by prefixes. By registry too, since its client certificate may
 * have opened what is not public.
 */
function publicKey({ key }: Registry, { origin, basePath, namePrefix }: Upstream, repository: string): string {
  return `${key} ${origin}${basePath} ${namePrefix}${repository}`;
}

function note(exchange: Exchange, response: UpstreamResponse): void {
  exchange.notes.upstream = new URL(response.upstream.origin).host;
  exchange.notes.upstreamStatus = response.status;
  exchange.notes.upstreamMs = Math.round(response.elapsedMs);
}
