/**
 * Asking a host that wants to know who asks: try, read the challenge, get what it wants, ask again (protocol R92–R116).
 *
 *     remembered challenge? ── token or Basic ──▶ ask ──▶ not 401: answer
 *     ask ──▶ not 401: answer          │ 401: forget, once more without Authorization for a fresh challenge
 *      └── 401 ──▶ challenge (else that of /v2/) ──▶ token or Basic ──▶ ask ──▶ answer, whatever it is
 *
 * So a request is asked at most three times, and a refusal that stays is the answer. Challenges are remembered per origin
 * and repository, so that a warm request is one request. Some registries answer 403 for a blob when a token has ended: one that
 * was kept is replaced once (compat C11).
 */
import { LRUCache } from "lru-cache";
import { UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import type { AddressKind } from "./address.ts";
import { discardBody } from "./body.ts";
import { type AuthorisedRequest, type Demand, demandOf, ownCredential } from "./demand.ts";
import { type HttpRequest, type HttpResponse, nameOf } from "./http.ts";
import { basicAuthorization, type TokenRequest, type Tokens } from "./token.ts";

export interface Authorizer {
  /** The answer after at most one round of authentication. A token server's refusal is a 401 without headers and body. */
  ask(request: AuthorisedRequest): Promise<HttpResponse>;
  /**
   * For a body that can be sent once: with the proof that is known or that `/v2/` asks for. A 401 is the answer then.
   * @throws UpstreamError `token` when a token was refused that may have ended since it was given
   */
  askOnce(request: AuthorisedRequest): Promise<HttpResponse>;
  /** The registry whose upstream named this realm lately; of the map then in force. */
  knownRealm(realmUrl: string): Registry | undefined;
}

export interface AuthorizerDependencies {
  readonly exchange: (request: HttpRequest) => Promise<HttpResponse>;
  readonly tokens: Tokens;
  /** Credentials are not sent because the realm is on a foreign domain; told once an hour. */
  readonly onForeignRealm: (registry: Registry, realm: URL) => void;
}

/** One per repository in use, host and identity; each is a few hundred bytes. */
const MAX_DEMANDS = 10_000;
/** Registries times a few realms, and one ping per origin. */
const MAX_REALMS = 1000;
/** How long the answer of `/v2/` explains 401s that explain nothing. */
const PING_TTL_MS = 10 * 60_000;
/** Every request finds it out: a line for each would bury the others. */
const FOREIGN_TOLD_MS = 60 * 60_000;
/** So long a 403 for a blob is believed without a new token: without this each one would cost three requests. */
const PLAIN_REFUSAL_MS = 60_000;

/** An Authorization value. */
interface Sendable {
  readonly kind: "send";
  readonly value: string;
  readonly age: "kept" | "new";
  readonly refused: () => void;
}

/** What can be sent: an Authorization value, nothing, or nothing because the token server refused. */
type Proof = Sendable | { readonly kind: "nothing" } | { readonly kind: "denied" };

export function createAuthorizer({ exchange, tokens, onForeignRealm }: AuthorizerDependencies): Authorizer {
  const demands = new LRUCache<string, Demand>({ max: MAX_DEMANDS });
  const pings = new LRUCache<string, { demand: Demand | undefined }>({ max: MAX_REALMS, ttl: PING_TTL_MS });
  const realms = new LRUCache<string, Registry>({ max: MAX_REALMS });
  const plainRefusals = new LRUCache<string, true>({ max: MAX_DEMANDS, ttl: PLAIN_REFUSAL_MS });

  const foreignTold = new LRUCache<string, true>({ max: MAX_REALMS, ttl: FOREIGN_TOLD_MS });

  function tellForeign(registry: Registry, realm: URL): void {
    const key = `${registry.key} ${realm.host}`;
    if (foreignTold.has(key)) return;
    foreignTold.set(key, true);
    onForeignRealm(registry, realm);
  }

  async function ask(request: AuthorisedRequest): Promise<HttpResponse> {
    const key = demandKey(request);
    const remembered = stillHolds(demands.get(key), request);
    if (remembered !== undefined) {
      const answer = await askAgain(remembered, request);
      if (answer !== undefined && answer.status !== 401) return answer;
      // The token may be stale, or the registry may want something else by now: nvcr.io answers a bad token with a challenge
      // that leads nowhere, and only a request without one with the challenge that holds (protocol R111).
      if (answer !== undefined) demands.delete(key);
      await discardBody(answer?.body ?? null);
    }
    const bare = await exchange(request);
    if (!mayBeForWantOfProof(bare, request)) return bare;
    const demand = learn(bare, request) ?? (await pingDemand(request));
    const proof = demand === undefined ? NOTHING : await firstProofFor(demand, request);
    if (demand === undefined || proof.kind === "nothing") return bare;
    await discardBody(bare.body);
    if (proof.kind === "denied") return deniedAnswer(request, bare.addressKind);
    const answer = await prove(demand, proof, request);
    if (answer.status !== 401) demands.set(key, demand);
    return answer;
  }

  async function askOnce(request: AuthorisedRequest): Promise<HttpResponse> {
    const key = demandKey(request);
    const demand = stillHolds(demands.get(key), request) ?? (await pingDemand(request));
    const proof = demand === undefined ? NOTHING : await proofFor(demand, request);
    if (demand !== undefined && proof.kind === "denied") return deniedAnswer(request, demand.addressKind);
    const answer = await exchange(proof.kind === "send" ? withAuthorization(request, proof.value) : request);
    if (answer.status !== 401 || proof.kind !== "send") return answer;
    // The next request asks for a fresh challenge and a fresh token.
    demands.delete(key);
    proof.refused();
    if (proof.age === "new") return answer;
    // A kept token may have ended since, which is no verdict about who may write: the client's next try brings a new one.
    await discardBody(answer.body);
    throw new UpstreamError("token", `${nameOf(request.url)}: a token that was good before was refused`);
  }

  /**
   * Shows the proof. A kept token that is refused says nothing about who may read: it may have been revoked since, while another
   * client's refusal made us forget the demand. So a new one is shown once.
   */
  async function prove(demand: Demand, proof: Sendable, request: AuthorisedRequest): Promise<HttpResponse> {
    const answer = await exchange(withAuthorization(request, proof.value));
    if (mayHaveEnded(answer, proof, request)) return renewed(demand, { answer, proof }, request);
    if (answer.status !== 401) return answer;
    proof.refused();
    if (proof.age === "new") return answer;
    const fresh = await proofFor(demand, request);
    if (fresh.kind !== "send") return answer;
    await discardBody(answer.body);
    return prove(demand, { ...fresh, age: "new" }, request);
  }

  /** With what is known from before; undefined when there is nothing to send. */
  async function askAgain(demand: Demand, request: AuthorisedRequest): Promise<HttpResponse | undefined> {
    const proof = await proofFor(demand, request);
    if (proof.kind === "nothing") return undefined;
    if (proof.kind === "denied") return deniedAnswer(request, demand.addressKind);
    const answer = await exchange(withAuthorization(request, proof.value));
    if (mayHaveEnded(answer, proof, request)) return renewed(demand, { answer, proof }, request);
    if (answer.status === 401) proof.refused();
    return answer;
  }

  /** A kept token that a registry answers 403 for a blob, unless a new one brought the same lately: then it is a plain no. */
  function mayHaveEnded({ status }: HttpResponse, proof: Sendable, request: AuthorisedRequest): boolean {
    const isBlob = request.url.pathname.includes("/blobs/");
    return status === 403 && isBlob && proof.age === "kept" && !plainRefusals.has(demandKey(request));
  }

  /** The answer to a new proof, shown once in place of the one that was refused. */
  async function renewed(
    demand: Demand,
    { answer, proof }: { readonly answer: HttpResponse; readonly proof: Sendable },
    request: AuthorisedRequest,
  ): Promise<HttpResponse> {
    await discardBody(answer.body);
    proof.refused();
    const fresh = await proofFor(demand, request);
    if (fresh.kind !== "send") return { ...answer, body: null };
    const second = await exchange(withAuthorization(request, fresh.value));
    if (second.status === 403) plainRefusals.set(demandKey(request), true);
    return second;
  }

  /** While the token server wants to be left alone, the registry need not say again what it wants (lesson T8). */
  async function firstProofFor(demand: Demand, request: AuthorisedRequest): Promise<Proof> {
    try {
      return await proofFor(demand, request);
    } catch (error) {
      if (error instanceof UpstreamError && error.status === 429) demands.set(demandKey(request), demand);
      throw error;
    }
  }

  async function proofFor(demand: Demand, request: AuthorisedRequest): Promise<Proof> {
    const credential = ownCredential(request);
    if (demand.kind === "basic") {
      const value = credential === undefined ? undefined : basicAuthorization(credential);
      return value === undefined ? NOTHING : { kind: "send", value, age: "new", refused: () => undefined };
    }
    if (credential !== undefined && !demand.mayReceiveCredentials) tellForeign(request.registry, demand.token.realm);
    const wanted: TokenRequest = { ...demand.token, credential: demand.mayReceiveCredentials ? credential : undefined };
    const answer = await tokens.get(wanted, request);
    if (answer.kind === "denied") return answer;
    const refused = () => tokens.drop(wanted, answer.token);
    return { kind: "send", value: `Bearer ${answer.token}`, age: answer.age, refused };
  }

  /**
   * Reads a challenge; realms that upstreams themselves name become known, where they may receive credentials: otherwise any
   * registry of the map could name another's realm and be sent the logins of that one.
   */
  function learn(response: HttpResponse, request: AuthorisedRequest): Demand | undefined {
    const demand = demandOf(response, request);
    if (demand?.kind === "bearer" && demand.mayReceiveCredentials && request.pingUrl !== undefined)
      realms.set(realmKey(demand.token.realm), request.registry);
    return demand;
  }

  /** gcr.io has sent 401 without a challenge on the resource itself: the one of `/v2/` holds then (protocol R116). */
  async function pingDemand(request: AuthorisedRequest): Promise<Demand | undefined> {
    const { pingUrl } = request;
    if (pingUrl === undefined) return undefined;
    const kept = pings.get(pingUrl.href);
    const isKept = kept !== undefined && (kept.demand === undefined || stillHolds(kept.demand, request) !== undefined);
    const known = isKept
      ? kept
      : {
          demand: await ping(pingOf(request, pingUrl)),
        };
    pings.set(pingUrl.href, known, { noUpdateTTL: isKept });
    const { demand } = known;
    // It was learnt for whichever repository came first: the scope is this one's.
    return demand?.kind === "bearer" ? { ...demand, token: { ...demand.token, scopes: request.scopes ?? [] } } : demand;
  }

  async function ping(request: AuthorisedRequest): Promise<Demand | undefined> {
    const response = await exchange(request);
    await discardBody(response.body);
    return response.status === 401 ? learn(response, request) : undefined;
  }

  return {
    ask,
    askOnce,
    knownRealm(realmUrl) {
      const url = URL.parse(realmUrl);
      return url === null ? undefined : realms.get(realmKey(url));
    },
  };
}

const NOTHING: Proof = { kind: "nothing" };

/**
 * By identity too: what one client was answered must not change how another is, or the answer to somebody without the right
 * (which differs when a token server is down) would tell that others pull the repository.
 */
function demandKey({ registry, url, scopes, identity }: AuthorisedRequest): string {
  const asker = identity.kind === "credential" ? identity.credential.id : "";
  return `${registry.key} ${url.origin} ${scopes?.join(" ") ?? url.pathname} ${asker}`;
}

function pingOf({ body: _body, ...request }: AuthorisedRequest, pingUrl: URL): AuthorisedRequest {
  return { ...request, url: pingUrl, method: "GET", headers: [] };
}

/**
 * A demand holds the judgement whether its realm may see credentials, and the settings under which it is asked: both are those of
 * one registry as the map has it, and end with it when the map is loaded again.
 */
function stillHolds(demand: Demand | undefined, { registry }: AuthorisedRequest): Demand | undefined {
  return demand?.kind === "bearer" && demand.token.registry !== registry ? undefined : demand;
}

/**
 * Could the answer be another one with proof? 401 says so. Some registries let everybody in and call private repositories
 * absent or forbidden: worth asking when there is a credential to show.
 */
function mayBeForWantOfProof(response: HttpResponse, request: AuthorisedRequest): boolean {
  if (response.status === 401) return true;
  return (response.status === 403 || response.status === 404) && ownCredential(request) !== undefined;
}

function withAuthorization(request: AuthorisedRequest, value: string): HttpRequest {
  return { ...request, headers: [...request.headers, ["Authorization", value]] };
}

function deniedAnswer(request: AuthorisedRequest, addressKind: AddressKind): HttpResponse {
  return { status: 401, headers: new Headers(), body: null, url: request.url, addressKind };
}

/** A realm by its address alone: what clients hand back may have lost the query. */
function realmKey(realm: URL): string {
  return `${realm.origin}${realm.pathname}`;
}
