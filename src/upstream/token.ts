/**
 * Tokens of registries' token servers: fetched once per key however many layers wait (protocol R112), kept until nine
 * tenths of their life are over (R95–R97), and never given to anybody else (R110, T30). They never leave this level.
 * An identity token is shown to the token server in a form and to nobody else, never as Basic (R99).
 */
import { LRUCache } from "lru-cache";
import { type HeaderLine, UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import type { AddressRule } from "./address.ts";
import { discardBody, readBody } from "./body.ts";
import { type HttpRequest, type HttpResponse, nameOf } from "./http.ts";
import { follow } from "./redirect.ts";
import type { Quota } from "./quota.ts";
import type { Credential } from "./request.ts";
import { type Limits, waitFor } from "./wait.ts";

export interface TokenRequest {
  readonly registry: Registry;
  /** Origin of the registry whose challenge named the realm: tokens of one upstream are nothing at another (protocol R111). */
  readonly origin: string;
  /** With the query it has (protocol R93). */
  readonly realm: URL;
  readonly rule: AddressRule;
  /** As the challenge has it; absent stays absent (protocol R139). */
  readonly service: string | undefined;
  readonly scopes: readonly string[];
  /** Already judged fit for this realm; undefined asks anonymously. */
  readonly credential: Credential | undefined;
  /** Value of a `Via` header, where one is to be sent. */
  readonly via?: string;
}

export type TokenAnswer =
  | {
      readonly kind: "token";
      readonly token: string;
      /** `kept`: fetched for an earlier request, so it may have been revoked since. */
      readonly age: "kept" | "new";
    }
  /** The token server answered 401 or 403: it does not give this identity this scope (protocol R102). */
  | { readonly kind: "denied" };

export interface Tokens {
  /** @throws UpstreamError `token` when the server failed; `refused-address`; `timeout` */
  get(request: TokenRequest, limits: Limits): Promise<TokenAnswer>;
  /** Always asks the server and keeps nothing. */
  fetch(request: TokenRequest, limits: Limits): Promise<TokenAnswer>;
  /** Forgets a token that a registry refused, unless another one has taken its place. */
  drop(request: TokenRequest, token: string): void;
}

export interface TokensDependencies {
  /** Leaves alone who was told to wait. */
  readonly quota: Pick<Quota, "through">;
  readonly exchange: (request: HttpRequest) => Promise<HttpResponse>;
  /** Wall clock, milliseconds. */
  readonly now: () => number;
  /** Time for one token, whoever waits for it. */
  readonly timeoutMs: number;
}

/** podman reads as much; real tokens have 2 to 8 KB (protocol R104). */
const MAX_ANSWER_BYTES = 1024 * 1024;
/** A token per repository and identity; this is some thousands of long ones. */
const MAX_CACHED_CHARACTERS = 64 * 1024 * 1024;
/** "When omitted, this defaults to 60 seconds" (distribution token specification). */
const DEFAULT_LIFETIME_SECONDS = 60;
/** Longer promises are not believed: keys change. ECR's twelve hours are the longest known. */
const MAX_LIFETIME_SECONDS = 12 * 60 * 60;
/** Renewed before it ends, as BuildKit does (protocol R97). */
const USED_SHARE = 0.9;

export function createTokens(dependencies: TokensDependencies): Tokens {
  const { now, timeoutMs } = dependencies;
  const cache = new LRUCache<string, { token: string; renewAtMs: number }>({
    maxSize: MAX_CACHED_CHARACTERS,
    sizeCalculation: ({ token }, key) => token.length + key.length,
  });
  // Bounded by the requests under way, each of which waits for one.
  const flights = new Map<string, Promise<TokenAnswer>>();

  async function obtain(key: string, request: TokenRequest): Promise<TokenAnswer> {
    // The flight is everybody's: neither the first client's leaving nor its deadline may end it for the others.
    const limits = { signal: new AbortController().signal, deadlineMs: performance.now() + timeoutMs };
    const fetched = await fetchToken(request, limits, dependencies);
    if (fetched.kind === "denied") return fetched;
    // The local moment of receipt counts: issued_at is wrong wherever a clock is (protocol R96).
    cache.set(key, { token: fetched.token, renewAtMs: now() + fetched.lifetimeSeconds * 1000 * USED_SHARE });
    return fetched;
  }

  return {
    get(request, limits) {
      const key = keyOf(request);
      const cached = cache.get(key);
      if (cached !== undefined && now() < cached.renewAtMs)
        return Promise.resolve({ kind: "token", token: cached.token, age: "kept" });
      const flight = flights.get(key) ?? obtain(key, request).finally(() => flights.delete(key));
      flights.set(key, flight);
      return waitFor(flight, { ...limits, what: `token of ${nameOf(request.realm)}` });
    },
    fetch: (request, limits) => fetchToken(request, limits, dependencies),
    drop(request, token) {
      const key = keyOf(request);
      if (cache.peek(key)?.token === token) cache.delete(key);
    },
  };
}

/** Everything a token depends on (protocol R110). JSON keeps the parts apart whatever they hold. */
function keyOf({ origin, realm, service, scopes, credential }: TokenRequest): string {
  const holder = credential === undefined ? "anonymous" : ["credential", credential.origin, credential.id];
  return JSON.stringify([origin, realm.href, service ?? null, scopes.toSorted(), holder]);
}

type Fetched =
  | { readonly kind: "token"; readonly token: string; readonly age: "new"; readonly lifetimeSeconds: number }
  | { readonly kind: "denied" };

async function fetchToken(
  request: TokenRequest,
  limits: Limits,
  { quota, exchange }: TokensDependencies,
): Promise<Fetched> {
  const { registry, realm, credential } = request;
  const what = nameOf(realm);
  const asking = { registry, origin: realm.origin, credential, subject: "tokens" } as const;
  const response = await quota.through(asking, limits, () => ask(request, limits, exchange));
  if (response.status === 200) return parseToken(await readAnswer(response, limits, what), what);
  await discardBody(response.body);
  if (isRefusal(response.status, request)) return { kind: "denied" };
  const retryAfter = response.headers.get("retry-after");
  const facts = { status: response.status, ...(retryAfter !== null && { retryAfter }) };
  throw new UpstreamError("token", `${what}: the token server answered ${response.status}`, facts);
}

/** OAuth 2 calls a refresh token that ran out `invalid_grant`, with status 400 (RFC 6749 section 5.2). */
function isRefusal(status: number, { credential }: TokenRequest): boolean {
  return status === 401 || status === 403 || (status === 400 && isIdentityToken(credential));
}

async function ask(
  request: TokenRequest,
  limits: Limits,
  exchange: TokensDependencies["exchange"],
): Promise<HttpResponse> {
  const { credential } = request;
  try {
    if (isIdentityToken(credential)) return await exchange(formRequest(request, credential.password, limits));
    const strip = (asked: HttpRequest) => ({
      ...asked,
      headers: asked.headers.filter(([name]) => name !== "Authorization"),
    });
    return await follow(queryRequest(request, limits), { ask: exchange, strip });
  } catch (cause) {
    // What hindered us stays visible, but it is the token server that failed and not the registry: the caller may go on with what it has.
    if (!(cause instanceof UpstreamError) || cause.kind === "refused-address") throw cause;
    throw new UpstreamError("token", `token server: ${cause.message}`, { cause });
  }
}

function queryRequest(request: TokenRequest, limits: Limits): HttpRequest {
  const { registry, rule, credential } = request;
  const authorization = credential === undefined ? undefined : basicAuthorization(credential);
  const headers = commonHeaders(request);
  if (authorization !== undefined) headers.push(["Authorization", authorization]);
  return { url: tokenUrl(request), method: "GET", headers, registry, rule, ...limits };
}

/**
 * The OAuth 2 form: the scopes once, separated by spaces (protocol R98, R99). Its answer may bring a new refresh token, which
 * nobody keeps: the one that is configured stays good. A redirect is not followed, since the secret is in the body.
 */
function formRequest(request: TokenRequest, refreshToken: string, limits: Limits): HttpRequest {
  const { registry, rule, realm, service, scopes } = request;
  const form = new URLSearchParams({ grant_type: "refresh_token", client_id: "layover" });
  if (service !== undefined) form.set("service", service);
  if (scopes.length > 0) form.set("scope", scopes.join(" "));
  form.set("refresh_token", refreshToken);
  const headers: HeaderLine[] = [...commonHeaders(request), ["Content-Type", "application/x-www-form-urlencoded"]];
  const body = { kind: "whole" as const, bytes: new TextEncoder().encode(form.toString()) };
  return { url: realm, method: "POST", headers, body, registry, rule, ...limits };
}

function commonHeaders({ via }: TokenRequest): HeaderLine[] {
  return [["Accept", "application/json"], ...(via === undefined ? [] : [["Via", via] as const])];
}

/** `scope` once per scope, `service` only if there is one, behind whatever query the realm has (protocol R93, R139). */
function tokenUrl({ realm, service, scopes }: TokenRequest): URL {
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.append("service", service);
  for (const scope of scopes) url.searchParams.append("scope", scope);
  return url;
}

async function readAnswer(response: HttpResponse, { deadlineMs }: Limits, what: string): Promise<Uint8Array> {
  if (response.body === null) return new Uint8Array();
  try {
    return await readBody(response.body, { maxBytes: MAX_ANSWER_BYTES, deadlineMs });
  } catch (cause) {
    throw new UpstreamError("token", `${what}: the token server's answer could not be read`, { cause });
  }
}

/** nvcr.io calls its JSON text, so the content type says nothing (protocol R94). */
function parseToken(bytes: Uint8Array, what: string): Fetched {
  const answer = parseObject(new TextDecoder().decode(bytes));
  const token = answer?.["token"] || answer?.["access_token"];
  if (typeof token !== "string" || !/^[\x21-\x7e]+$/.test(token)) {
    throw new UpstreamError("token", `${what}: expected JSON with token or access_token, got neither`);
  }
  return { kind: "token", token, age: "new", lifetimeSeconds: lifetimeOf(answer?.["expires_in"]) };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // Not JSON: said by the caller, who knows which server it was.
    return undefined;
  }
}

function lifetimeOf(expiresIn: unknown): number {
  if (typeof expiresIn !== "number" || !Number.isInteger(expiresIn) || expiresIn <= 0) return DEFAULT_LIFETIME_SECONDS;
  return Math.min(expiresIn, MAX_LIFETIME_SECONDS);
}

/** docker's mark for a secret that is a refresh token and no password. */
export const IDENTITY_TOKEN_USER = "<token>";

function isIdentityToken(credential: Credential | undefined): credential is Credential {
  return credential?.username === IDENTITY_TOKEN_USER;
}

/** `Basic …` in UTF-8; undefined for an identity token, which is no password and goes to no registry (protocol R99). */
export function basicAuthorization({ username, password }: Credential): string | undefined {
  if (username === IDENTITY_TOKEN_USER) return undefined;
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}
