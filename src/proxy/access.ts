/**
 * May this client read this repository, and in whose name is the upstream asked? The upstream decides: a client is asked
 * for in its own name, or anonymously; configured credentials speak only for repositories that anybody may read, unless
 * the operator shares what is private. What the answer "no" looks like is decided here too, in one place (product section 5).
 */
import { type HeaderLine, RegistryError, UpstreamError } from "../errors.ts";
import { formatBearerChallenge } from "../registry/challenge.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import type { ConfiguredCredential } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { Credential, Identity, UpstreamClient, UpstreamRequest, UpstreamResponse } from "../upstream/client.ts";
import type { Client, SharedHost } from "./client.ts";
import { configuredCredential } from "./configured-credential.ts";
import type { Exchange } from "./exchange.ts";
import type { Origin } from "./origin.ts";
import { createPublicRepositories } from "./public-repositories.ts";
import { errorOfFailure } from "./refusal.ts";
import { ANONYMOUS, createSharedAccounts } from "./shared-accounts.ts";
import { type StandInAnswer, type StandInKnowledge, type StandInRequest, createStandIns } from "./stand-in.ts";
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
  readonly standIns?: StandInRequest["standIns"];
  readonly transfer?: UpstreamRequest["transfer"];
  readonly askLast?: UpstreamRequest["askLast"];
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
  /** What stand-ins need to know besides. Default: none is asked. */
  readonly standIns?: StandInKnowledge;
  /** A keyed hash: what names a holder in the records reveals no secret. */
  readonly fingerprint: (...parts: string[]) => string;
}

/** In whose name content is asked for, and shown from the cache. */
export type Reader =
  /** Anonymously, or with a configured credential where that is known to be public. */
  | {
      readonly kind: "everybody";
      /** No upstream but this origin's is asked: the client has a credential for it, and the name may be private. */
      readonly within?: string;
    }
  | {
      readonly kind: "holder";
      /** Names the holder in the records. */
      readonly holder: string;
      /** That the credential is for. */
      readonly origin: string;
      /** As it is now: some live for minutes only. */
      readonly credential: () => Promise<Credential>;
    };

export interface ReaderAnswer extends StandInAnswer {
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

export function createAccess(options: AccessOptions, dependencies: AccessDependencies): Access {
  const { upstream, credentialOf, fingerprint } = dependencies;
  const publicRepositories = createPublicRepositories();
  const standIns = createStandIns({ upstream, publicRepositories, ...dependencies.standIns });
  const sharedAccounts = createSharedAccounts({ upstream, credentialOf, publicRepositories });
  const holders = new WeakMap<ConfiguredCredential, string>();

  function readerOf({ client, route: { registry, repository } }: Pick<RegistryRequest, "client" | "route">): Reader {
    if (client.kind === "own") {
      const { credential } = client;
      return {
        kind: "holder",
        holder: `own ${credential.id}`,
        origin: credential.origin,
        credential: () => Promise.resolve(credential),
      };
    }
    const configured = configuredCredential(registry, repository);
    const mayUse = configured !== undefined && (client.kind === "user" || options.sharePrivate);
    if (!mayUse) return EVERYBODY_READS;
    return {
      kind: "holder",
      holder: holderOf(configured),
      origin: configured.origin,
      credential: () => credentialOf(configured),
    };
  }

  /** By what is configured and not by its secret, which a program may renew. */
  function holderOf(configured: ConfiguredCredential): string {
    const known = holders.get(configured);
    if (known !== undefined) return known;
    const holder = `configured ${fingerprint(JSON.stringify(configured))}`;
    holders.set(configured, holder);
    return holder;
  }

  /** In whose name to ask, and in whose if that is limited. What one credential may see is asked with no other. */
  async function identitiesOf(reader: Reader | "nobody", route: Route): Promise<readonly [Identity, ...Identity[]]> {
    if (reader === "nobody") return [ANONYMOUS];
    if (reader.kind === "holder") return [{ kind: "credential", credential: await reader.credential() }];
    // Where only one origin may learn the name, nobody's request is for that one alone.
    if (onlyOriginOf(reader, ANONYMOUS, route) !== undefined) return [ANONYMOUS];
    return sharedAccounts.identities(route);
  }

  /**
   * The one origin that may learn the repository's name; undefined for all. What is asked with a credential, or for a client who
   * has one, may be private, and then its name is nobody's but that origin's; what was shown to be public may be asked anywhere.
   */
  function onlyOriginOf(reader: Reader | "nobody", identity: Identity, route: Route) {
    const within = reader !== "nobody" && reader.kind === "everybody" ? reader.within : undefined;
    const origin = identity.kind === "credential" ? identity.credential.origin : within;
    return origin === undefined || publicRepositories.isPublicAt(origin, route) ? undefined : origin;
  }

  async function askAs(reader: Reader | "nobody", request: RegistryRequest, question: Question): Promise<ReaderAnswer> {
    const { exchange, route } = request;
    try {
      const [identity, ...instead] = await identitiesOf(reader, route);
      const response = await standIns.send({
        registry: route.registry,
        repository: route.repository,
        ...question,
        clientMethod: exchange.method,
        identity,
        instead,
        onlyOrigin: onlyOriginOf(reader, identity, route),
        signal: exchange.signal,
        deadlineMs: request.deadlineMs,
        via: viaLine(exchange.headers.get("via"), options.pseudonym),
      });
      note(exchange, response);
      if (response.isStandIn) return { ...response, isProof: false };
      const isAnonymous = response.identity.kind === "anonymous";
      if (isAnonymous) publicRepositories.answered(route, question, response);
      const isProof = isAnonymous || (reader !== "nobody" && reader.kind === "holder");
      return { ...response, isProof };
    } catch (error) {
      if (error instanceof UpstreamError) throw errorOfFailure(error);
      throw error;
    }
  }

  return {
    async ask(request, question) {
      // The part of a blob that a client asks for is passed on as it comes: only its own registry may give it.
      const isUnverified = request.endpoint.kind === "blob" && request.exchange.headers.has("range");
      const asked: Question = isUnverified ? { ...question, standIns: "never" } : question;
      const reader = readerOf(request);
      if (reader.kind === "everybody")
        await sharedAccounts.prove(request.route, asked, (look) => askAs("nobody", request, { ...asked, ...look }));
      const response = await askAs(reader, request, asked);
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

function note(exchange: Exchange, response: UpstreamResponse): void {
  exchange.notes.upstream = new URL(response.upstream.origin).host;
  exchange.notes.upstreamStatus = response.status;
  exchange.notes.upstreamMs = Math.round(response.elapsedMs);
}
