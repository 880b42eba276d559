/**
 * Who is asking. A request is anonymous, or carries one of our tokens, or (clients that know only Basic) credentials.
 * A credential is bound to one registry when the token is made and counts for no other (product section 5).
 */
import { RegistryError } from "../errors.ts";
import type { Registry, RegistryMap } from "../registry/registry.ts";
import { registryNamed } from "../registry/lookup.ts";
import type { Route } from "../registry/route.ts";
import type { Credential } from "../upstream/client.ts";
import type { Sealer } from "./seal.ts";

export type Client =
  /** No Authorization header. */
  | { readonly kind: "none" }
  /** Holds a token of ours that stands for nobody. */
  | { readonly kind: "anonymous" }
  /** Logged in, but at another registry: counts as anonymous here. */
  | { readonly kind: "foreign" }
  | { readonly kind: "own"; readonly credential: Credential }
  /** One of our own users: may use what is configured, as far as its rights go. */
  | { readonly kind: "user"; readonly name: string; readonly may: (right: Right, where: RepositoryOf) => boolean };

/** What a user of ours may do in a repository. */
export type Right = "pull" | "push" | "delete";
export type RepositoryOf = Pick<Route, "registry" | "repository">;

/** How long a token of ours lives, seconds. Long enough for a slow pull; upstream tokens are renewed behind it. */
export const TOKEN_LIFETIME_SECONDS = 3600;

/** Longer user names and passwords are refused: registries' tokens stay below 8 KiB (protocol R104). */
const MAX_SECRET_CHARACTERS = 8192;

/** What a token says. Short names: it travels with each request. */
interface Note {
  /** Registry key, or `*` for nobody in particular. */
  r: string;
  /** Upstream origin the credential is for: a map that changes under a token must not move the credential. */
  o?: string;
  u?: string;
  p?: string;
  /** Expiry, seconds since the epoch. */
  e: number;
}

export interface Clients {
  /** @throws RegistryError UNAUTHORIZED for a token that is unknown, expired or not ours */
  identify(authorization: string | null, registry: Registry, isShared: SharedHost): Client;
  /** True when the header carries a token that still holds, for the ping. */
  holdsToken(authorization: string | null): boolean;
  issue(registry: Registry | undefined, credential: Credential | undefined): string;
  credentialFor(registry: Registry, username: string, password: string): Credential;
}

/** `"shared"`: several registries answer on this host, so a plain user name means the default one. */
export type SharedHost = "shared" | "own";

export interface ClientsDependencies {
  readonly sealer: Sealer;
  readonly map: () => RegistryMap;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export function createClients({ sealer, map, now }: ClientsDependencies): Clients {
  function credentialFor(registry: Registry, username: string, password: string): Credential {
    const origin = registry.upstreams[0].origin;
    return { origin, id: sealer.fingerprint(origin, username, password), username, password };
  }

  function readToken(token: string): Note | undefined {
    const note = sealer.open(token);
    return isNote(note) && note.e * 1000 > now() ? note : undefined;
  }

  function fromToken(token: string, registry: Registry): Client {
    const note = readToken(token);
    if (note === undefined)
      throw new RegistryError("UNAUTHORIZED", "the token is not known here or has expired: log in again");
    if (note.u === undefined || note.p === undefined) return { kind: "anonymous" };
    const isBound = registry.keys.includes(note.r) && note.o === registry.upstreams[0].origin;
    if (!isBound || registry.login === "proxy") return { kind: "foreign" };
    return { kind: "own", credential: credentialFor(registry, note.u, note.p) };
  }

  function fromBasic(encoded: string, registry: Registry, isShared: SharedHost): Client {
    const login = parseBasic(encoded);
    if (login === undefined) throw new RegistryError("UNAUTHORIZED", "the Basic credentials cannot be read");
    const bound = bindLogin(login.username, isShared === "shared" ? map().default : registry, map());
    if (bound.registry !== registry || registry.login === "proxy") return { kind: "foreign" };
    return { kind: "own", credential: credentialFor(registry, bound.username, login.password) };
  }

  return {
    credentialFor,
    identify(authorization, registry, isShared) {
      if (authorization === null) return { kind: "none" };
      const [scheme, rest] = splitScheme(authorization);
      if (scheme === "bearer") return fromToken(rest, registry);
      if (scheme === "basic") return fromBasic(rest, registry, isShared);
      throw new RegistryError("UNAUTHORIZED", "expected Authorization of scheme Bearer or Basic");
    },
    holdsToken(authorization) {
      const [scheme, rest] = splitScheme(authorization ?? "");
      return scheme === "bearer" && readToken(rest) !== undefined;
    },
    issue(registry, credential) {
      const note: Note = { r: registry?.key ?? "*", e: Math.floor(now() / 1000) + TOKEN_LIFETIME_SECONDS };
      if (credential === undefined) return sealer.seal(note);
      return sealer.seal({ ...note, o: credential.origin, u: credential.username, p: credential.password });
    },
  };
}

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** The credentials in a Basic header's base64 part; undefined when it has no colon, is empty or too long. */
export function parseBasic(encoded: string): Login | undefined {
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 0 || text.length > MAX_SECRET_CHARACTERS) return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/**
 * Which registry a login is for: `quay/alice` names it, a plain name means `fallback`. A slash whose first part names no
 * registry belongs to the user name.
 */
export function bindLogin(
  username: string,
  fallback: Registry,
  map: RegistryMap,
): { registry: Registry; username: string } {
  const slash = username.indexOf("/");
  const named = slash < 0 ? undefined : registryNamed(username.slice(0, slash), map);
  return named === undefined
    ? { registry: fallback, username }
    : { registry: named, username: username.slice(slash + 1) };
}

/** `"Bearer abc"` → `["bearer", "abc"]`. */
export function splitScheme(authorization: string): [scheme: string, rest: string] {
  const space = authorization.indexOf(" ");
  if (space < 0) return [authorization.toLowerCase(), ""];
  return [authorization.slice(0, space).toLowerCase(), authorization.slice(space + 1).trim()];
}

function isNote(value: unknown): value is Note {
  return typeof value === "object" && value !== null && "r" in value && "e" in value && typeof value.e === "number";
}
