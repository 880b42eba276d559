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
import type { Registry, Upstream } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { Credential, Identity, UpstreamClient, UpstreamResponse } from "../upstream/client.ts";
import type { Client, SharedHost } from "./client.ts";
import type { Exchange } from "./exchange.ts";
import type { Origin } from "./origin.ts";
import { errorOfFailure } from "./refusal.ts";
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

export interface Access {
  /**
   * Asks the upstream in the right name. Gives any answer but a denial; the caller reads or cancels its body.
   * @throws RegistryError UNAUTHORIZED, NAME_UNKNOWN or DENIED when this client may not read this; UNAVAILABLE when the
   * upstream gave no answer
   */
  ask(request: RegistryRequest, question: Question): Promise<UpstreamResponse>;
  /**
   * Asks for everybody: anonymously, or with a configured credential where that is known to be public. Gives any answer,
   * 401 and 403 too: they say that the repository is not public.
   * @throws RegistryError UNAVAILABLE when the upstream gave no answer
   */
  askForAll(request: RegistryRequest, question: Question): Promise<UpstreamResponse>;
  /** The answer "no" for this client. */
  denial(request: RegistryRequest): RegistryError;
  /** The challenge that lets a client log in at the registry this request is about (protocol R117, R121, R164). */
  challenge(request: Pick<RegistryRequest, "origin" | "route" | "sharedHost">, error?: "invalid_token"): HeaderLine;
}

/** How long an anonymous 200 proves a repository public. */
const PUBLIC_TTL_MS = 15 * 60_000;
/** Enough for every repository of a busy farm; an entry is some 200 bytes. */
const MAX_PUBLIC = 20_000;

export function createAccess(options: AccessOptions, upstream: UpstreamClient): Access {
  const isPublic = new LRUCache<string, true>({ max: MAX_PUBLIC, ttl: PUBLIC_TTL_MS });

  function identityFor({ client, route }: RegistryRequest): Identity {
    if (client.kind === "own") return { kind: "credential", credential: client.credential };
    const configured = configuredCredential(route.registry, route.repository);
    if (configured !== undefined && options.sharePrivate) return { kind: "credential", credential: configured };
    return identityForAll(route);
  }

  function identityForAll({ registry, repository }: Route): Identity {
    const configured = configuredCredential(registry, repository);
    const mayUse = configured !== undefined && isPublicAt(configured.origin, registry, repository);
    return mayUse ? { kind: "credential", credential: configured } : { kind: "anonymous" };
  }

  /** At every upstream of the registry that would be shown the credential. */
  function isPublicAt(origin: string, registry: Registry, repository: string): boolean {
    const shown = registry.upstreams.filter((upstream) => upstream.origin === origin);
    return shown.every((upstream) => isPublic.has(publicKey(registry, upstream, repository)));
  }

  async function send(request: RegistryRequest, question: Question, identity: Identity): Promise<UpstreamResponse> {
    const { exchange, route } = request;
    try {
      return await upstream.send({
        registry: route.registry,
        repository: route.repository,
        ...question,
        identity,
        signal: exchange.signal,
        deadlineMs: request.deadlineMs,
        via: viaLine(exchange.headers.get("via"), options.pseudonym),
      });
    } catch (error) {
      if (error instanceof UpstreamError) throw errorOfFailure(error);
      throw error;
    }
  }

  async function askAs(identity: Identity, request: RegistryRequest, question: Question): Promise<UpstreamResponse> {
    const response = await send(request, question, identity);
    note(request.exchange, response);
    if (identity.kind === "anonymous" && response.status === 200 && question.path.startsWith("manifests/")) {
      isPublic.set(publicKey(request.route.registry, response.upstream, request.route.repository), true);
    }
    return response;
  }

  return {
    async ask(request, question) {
      const response = await askAs(identityFor(request), request, question);
      if (response.status !== 401 && response.status !== 403) return response;
      await response.body?.cancel();
      throw denial(request);
    },
    askForAll: (request, question) => askAs(identityForAll(request.route), request, question),
    denial,
    challenge,
  };
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
      // oras takes NAME_UNKNOWN on referrers for a hard error and anything else for "not supported" (protocol R35).
      if (endpoint.kind === "referrers")
        return new RegistryError("MANIFEST_UNKNOWN", "manifest unknown or not readable");
      return new RegistryError("NAME_UNKNOWN", "repository unknown or not readable without a login");
    case "own":
      return new RegistryError("DENIED", "the registry denies these credentials access to this repository");
  }
}

function challenge(
  { origin, route, sharedHost }: Pick<RegistryRequest, "origin" | "route" | "sharedHost">,
  error?: "invalid_token",
): HeaderLine {
  // The mark tells the token service that a plain user name on this host means the default registry, not this one.
  const mark = sharedHost === "shared" ? "?host=shared" : "";
  return [
    "WWW-Authenticate",
    formatBearerChallenge({
      realm: `${origin.base}/token/${route.registry.key}${mark}`,
      service: origin.host?.text ?? "layover",
      scope: `repository:${route.requested}:pull`,
      ...(error === undefined ? {} : { error }),
    }),
  ];
}

/** The configured credential for a repository: the longest pattern that matches; one without patterns is for all. */
function configuredCredential(registry: Registry, repository: string): Credential | undefined {
  let best: { credential: Credential; length: number } | undefined;
  for (const { origin, username, password, repositories } of registry.credentials) {
    const length = repositories.length === 0 ? 0 : longestMatch(repositories, repository);
    if (length === undefined || (best !== undefined && best.length >= length)) continue;
    best = { credential: { origin, id: `configured:${origin}:${username}`, username, password }, length };
  }
  return best?.credential;
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
