/**
 * The token service: what clients ask after our challenge, and what `docker login` asks. Anonymous clients get a token at
 * once, without any upstream; a login is first checked at the one registry it is for, and the token we hand out is sealed
 * for that registry. No upstream token ever reaches a client (product section 5).
 */
import { LRUCache } from "lru-cache";
import { RegistryError, UpstreamError } from "../errors.ts";
import { formatBasicChallenge } from "../registry/challenge.ts";
import type { Registry, RegistryMap } from "../registry/registry.ts";
import { registryNamed } from "../registry/lookup.ts";
import { parseScopes } from "../registry/scope.ts";
import type { Credential, UpstreamClient, Verdict } from "../upstream/client.ts";
import { IDENTITY_TOKEN_USER } from "../upstream/token.ts";
import { waitFor } from "../upstream/wait.ts";
import { readBounded } from "./body.ts";
import { type Clients, TOKEN_LIFETIME_SECONDS, bindLogin, parseBasic, splitScheme } from "./client.ts";
import type { Exchange, Reply } from "./exchange.ts";
import { errorOfFailure } from "./refusal.ts";
import type { LoginLimit } from "./login-limit.ts";
import type { Login, Users } from "./users.ts";
import { viaLine } from "./via.ts";

/**
 * Which registry a token request names.
 * - `registry`: the realm's path did, `/token/<key>`; `isMarked` when the challenge was given on a host of several registries
 * - `host`: the realm of the ping on such a host; `default` is meant where nothing names another
 */
export type TokenTarget =
  | { readonly kind: "registry"; readonly registry: Registry; readonly isMarked: boolean }
  | { readonly kind: "host"; readonly default: Registry };

export interface LoginOptions {
  /** Our name in `Via`. */
  readonly pseudonym: string;
}

export interface LoginDependencies {
  readonly clients: Clients;
  readonly upstream: UpstreamClient;
  readonly map: () => RegistryMap;
  readonly limit: LoginLimit;
  /** Undefined without client access. */
  readonly users?: Users | undefined;
}

/** Who asks for a token, as far as it matters. */
export interface TokenAsker {
  /** The client's address, for the limit of failed logins. */
  readonly address: string;
  /** False for an address that nothing is served to: no login is tried for it. */
  readonly mayLogIn: boolean;
}

export interface TokenQuestion {
  readonly exchange: Exchange;
  readonly target: TokenTarget;
  readonly asker: TokenAsker;
  readonly deadlineMs: number;
}

export interface LoginService {
  /**
   * @throws RegistryError UNAUTHORIZED for refused credentials, TOOMANYREQUESTS for who was refused too often, DENIED for who
   * may not log in, UNAVAILABLE when their registry gave no verdict
   */
  answer(asked: TokenQuestion): Promise<Reply>;
}

/** A verdict holds this long: one login of a pull asks for a token per repository. */
const ACCEPTED_TTL_MS = 5 * 60_000;
/** Short, so that a corrected password works at once; long enough that a client in a loop does not lock the account. */
const REJECTED_TTL_MS = 5_000;
const MAX_VERDICTS = 10_000;
/** A form with a user name, a password and scopes. */
const MAX_FORM_BYTES = 64 * 1024;

export function createLoginService(
  { pseudonym }: LoginOptions,
  { clients, upstream, map, limit, users }: LoginDependencies,
): LoginService {
  const verdicts = new LRUCache<string, Verdict>({ max: MAX_VERDICTS });
  // Bounded by the requests under way, each of which waits for one.
  const checks = new Map<string, Promise<Verdict>>();

  /** The registry and user name a login is for; undefined when it is for another registry than the one asked. */
  function bind(
    target: TokenTarget,
    login: Login,
    scopes: string,
  ): { registry: Registry; username: string } | undefined {
    if (target.kind === "host")
      return bindLogin(login.username, dottedRegistry(scopes, map()) ?? target.default, map());
    const fallback = target.isMarked ? map().default : target.registry;
    const bound = bindLogin(login.username, fallback, map());
    return bound.registry === target.registry ? bound : undefined;
  }

  async function check(registry: Registry, credential: Credential, limits: CheckLimits): Promise<Verdict> {
    // Everybody's who waits for it: the first client's leaving must not end it for the others.
    const { signal } = new AbortController();
    const verdict = await upstream.verify(registry, credential, { ...limits, signal, scopes: [] });
    verdicts.set(credential.id, verdict, { ttl: verdict === "rejected" ? REJECTED_TTL_MS : ACCEPTED_TTL_MS });
    return verdict;
  }

  /** One check however many ask at once: a node that starts thirty images must not lock the account of a wrong password. */
  async function verdictOn(
    registry: Registry,
    credential: Credential,
    { headers, signal }: Exchange,
    deadlineMs: number,
  ) {
    const { id } = credential;
    const known = verdicts.get(id);
    if (known !== undefined) return known;
    const limits = { deadlineMs, via: viaLine(headers.get("via"), pseudonym) };
    const running = checks.get(id) ?? check(registry, credential, limits).finally(() => checks.delete(id));
    checks.set(id, running);
    try {
      return await waitFor(running, { signal, deadlineMs, what: `login at ${registry.key}` });
    } catch (error) {
      if (error instanceof UpstreamError) throw errorOfFailure(error);
      throw error;
    }
  }

  /** A login of a registry's own account. */
  async function relay(login: Login, scopes: string, asked: TokenQuestion): Promise<Reply> {
    const { exchange, target, asker, deadlineMs } = asked;
    const bound = bind(target, login, scopes);
    // In proxy mode Layover speaks in its own name: what a client sends is not passed on (protocol R41, R123).
    if (bound === undefined || bound.registry.login === "proxy") {
      return tokenReply(clients.issue(undefined, undefined), exchange);
    }
    // By registry: the same name elsewhere is somebody else.
    const who = `${bound.registry.key}/${bound.username}`;
    const credential = clients.credentialFor(bound.registry, bound.username, login.password);
    // Who was right a moment ago is not held up by somebody else's guesses from the same address.
    if (verdicts.get(credential.id) !== "accepted") limit.check(asker.address, who);
    const verdict = await verdictOn(bound.registry, credential, exchange, deadlineMs);
    exchange.notes.registry = bound.registry.key;
    if (verdict === "rejected") {
      limit.failed(asker.address, who, credential.id);
      throw refusedLogin("the registry refuses this user name or password", bound.registry.key);
    }
    return tokenReply(clients.issue(bound.registry, verdict === "accepted" ? credential : undefined), exchange);
  }

  return {
    async answer(asked) {
      const { exchange, asker } = asked;
      const { login, scopes } = await readTokenRequest(exchange);
      if (login === undefined) return tokenReply(clients.issue(undefined, undefined), exchange);
      if (!asker.mayLogIn) throw new RegistryError("DENIED", "you may not use this registry from here");
      if (users?.havePasswords !== true) return relay(login, scopes, asked);
      const user = await users.logIn(login, asker.address).catch(challengeAgain);
      exchange.notes.user = user.name;
      return tokenReply(clients.issueTo(user), exchange);
    },
  };
}

/** `docker login` shows the message of a 401 that has a challenge. */
function challengeAgain(error: unknown): never {
  if (!(error instanceof RegistryError) || error.code !== "UNAUTHORIZED") throw error;
  throw refusedLogin(error.message, "Layover");
}

function refusedLogin(message: string, realm: string): RegistryError {
  return new RegistryError("UNAUTHORIZED", message, { headers: [["WWW-Authenticate", formatBasicChallenge(realm)]] });
}

interface CheckLimits {
  readonly deadlineMs: number;
  readonly via: string;
}

interface TokenRequest {
  readonly login: Login | undefined;
  /** Space separated, as a form has them; query parameters joined. */
  readonly scopes: string;
}

/** GET with Basic, or the OAuth 2 form that containerd sends first (protocol R93, R98). */
async function readTokenRequest(exchange: Exchange): Promise<TokenRequest> {
  if (exchange.method === "POST") return readForm(exchange);
  const [scheme, rest] = splitScheme(exchange.headers.get("authorization") ?? "");
  const login = scheme === "basic" ? parseBasic(rest) : undefined;
  if (scheme === "basic" && login === undefined) {
    throw refusedLogin("the Basic credentials cannot be read", "layover");
  }
  return { login, scopes: new URLSearchParams(exchange.query).getAll("scope").join(" ") };
}

async function readForm(exchange: Exchange): Promise<TokenRequest> {
  const form = new URLSearchParams(new TextDecoder().decode(await readSmall(exchange)));
  const scopes = form.getAll("scope").join(" ");
  const refreshToken = form.get("refresh_token");
  // docker shows an identity token so that it holds for this address: it is the one of the registry behind (protocol R99).
  if (form.get("grant_type") === "refresh_token" && refreshToken !== null)
    return { login: { username: IDENTITY_TOKEN_USER, password: refreshToken }, scopes };
  const username = form.get("username");
  const password = form.get("password");
  if (form.get("grant_type") !== "password" || username === null || password === null) {
    // Clients fall back to GET on 400.
    throw new RegistryError("UNSUPPORTED", "expected grant_type=password with username and password", { status: 400 });
  }
  return { login: { username, password }, scopes };
}

async function readSmall(exchange: Exchange): Promise<Uint8Array> {
  if (exchange.body === null) return new Uint8Array();
  try {
    return await readBounded(exchange.body, MAX_FORM_BYTES);
  } catch (error) {
    throw new RegistryError("SIZE_INVALID", `expected a form of at most ${MAX_FORM_BYTES} bytes`, {
      status: 413,
      cause: error,
    });
  }
}

/**
 * podman logs in at `host/quay.io` and asks `repository:quay.io/org/app:pull`: the dotted name says which registry it means.
 * Who pushes asks for the sources of mounts besides, which may be another registry's: what is written to decides then.
 */
function dottedRegistry(scopes: string, map: RegistryMap): Registry | undefined {
  const asked = parseScopes(scopes);
  const written = asked.filter(({ actions }) => actions.includes("push"));
  for (const { name } of written.length > 0 ? written : asked) {
    const first = name.split("/")[0] ?? "";
    const named = /[.:]/.test(first) ? registryNamed(first, map) : undefined;
    if (named !== undefined) return named;
  }
  return undefined;
}

function tokenReply(token: string, exchange: Exchange): Reply {
  const body = JSON.stringify({
    token,
    access_token: token,
    expires_in: TOKEN_LIFETIME_SECONDS,
    issued_at: new Date(Date.now()).toISOString(),
  });
  return {
    status: 200,
    headers: [
      ["Content-Type", "application/json"],
      ["Content-Length", String(Buffer.byteLength(body))],
      ["Cache-Control", "no-store"],
    ],
    body: exchange.method === "HEAD" ? null : body,
  };
}
