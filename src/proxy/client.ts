/**
 * Who is asking. A request is anonymous, or carries one of our tokens, or (clients that know only Basic) credentials.
 * A credential is bound to one registry when the token is made and counts for no other (product section 5).
 */
import { RegistryError } from "../errors.ts";
import type { Registry, RegistryMap } from "../registry/registry.ts";
import { registryNamed } from "../registry/lookup.ts";
import type { Credential } from "../upstream/client.ts";
import { rememberOpened } from "./opened-seals.ts";
import type { Sealer } from "./seal.ts";
import type { Login, User, Users } from "./users.ts";

export type Client =
  /** No Authorization header. */
  | { readonly kind: "none" }
  /** Holds a token of ours that stands for nobody. */
  | { readonly kind: "anonymous" }
  /** Logged in, but at another registry: counts as anonymous here. */
  | { readonly kind: "foreign" }
  | {
      readonly kind: "own";
      readonly credential: Credential;
      /** Where access rules bound what clients may do that are no user of ours. */
      readonly may?: User["may"];
    }
  /** One of our own users: may use what is configured, as far as its rights go. */
  | { readonly kind: "user"; readonly name: string; readonly may: User["may"] };

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
  /** A user of ours, and the stamp of the password it logged in with. */
  n?: string;
  s?: string;
  /** Expiry, seconds since the epoch. */
  e: number;
}

/** What a request's credentials are read for. */
export interface IdentifiedAt {
  readonly registry: Registry;
  readonly sharedHost: SharedHost;
  /** The client's address, for the limit of failed logins. */
  readonly address: string;
}

export interface Clients {
  /**
   * Where users of ours have passwords, credentials are theirs; else they are those of the registry.
   * @throws RegistryError UNAUTHORIZED for a token that is unknown, expired or not ours, and for a wrong password
   */
  identify(authorization: string | null, at: IdentifiedAt): Promise<Client>;
  /** Nobody, or a user of ours. @throws RegistryError as `identify` */
  identifyUser(authorization: string | null, address: string): Promise<Client>;
  /** True when the header carries a token that still holds, for the ping. */
  holdsToken(authorization: string | null): boolean;
  issue(registry: Registry | undefined, credential: Credential | undefined): string;
  /** A token for a user of ours: good for every registry, until the password changes. */
  issueTo(user: User): string;
  credentialFor(registry: Registry, username: string, password: string): Credential;
}

/** `"shared"`: several registries answer on this host, so a plain user name means the default one. */
export type SharedHost = "shared" | "own";

export interface ClientsDependencies {
  readonly sealer: Sealer;
  readonly map: () => RegistryMap;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Undefined without client access. */
  readonly users?: Users | undefined;
}

export function createClients({ sealer, map, now, users }: ClientsDependencies): Clients {
  const open = rememberOpened(sealer.open);
  /** Of the tokens that are remembered: naming a credential is as dear as opening them. */
  const credentials = new WeakMap<Note, Credential>();

  function credentialFor(registry: Registry, username: string, password: string): Credential {
    const origin = registry.upstreams[0].origin;
    return { origin, id: sealer.fingerprint(origin, username, password), username, password };
  }

  function readToken(token: string): Note | undefined {
    const note = open(token);
    return isNote(note) && note.e * 1000 > now() ? note : undefined;
  }

  function noteIn(token: string): Note {
    const note = readToken(token);
    if (note === undefined) throw unknownToken();
    return note;
  }

  function fromToken(token: string, registry: Registry): Client {
    const note = noteIn(token);
    if (isForNobody(note)) return ANONYMOUS;
    if (note.u === undefined || note.p === undefined) throw unknownToken();
    const isBound = registry.keys.includes(note.r) && note.o === registry.upstreams[0].origin;
    if (!isBound || registry.login === "proxy") return { kind: "foreign" };
    const credential = credentials.get(note) ?? credentialFor(registry, note.u, note.p);
    credentials.set(note, credential); // for the origin that the note says, which is this registry's
    return { kind: "own", credential };
  }

  function fromBasic(encoded: string, { registry, sharedHost }: IdentifiedAt): Client {
    const login = readBasic(encoded);
    const bound = bindLogin(login.username, sharedHost === "shared" ? map().default : registry, map());
    if (bound.registry !== registry || registry.login === "proxy") return { kind: "foreign" };
    return { kind: "own", credential: credentialFor(registry, bound.username, login.password) };
  }

  /** A token that a registry's login gave, before there were users, is none of theirs. */
  function userOfToken(token: string): Client {
    const note = noteIn(token);
    if (isForNobody(note)) return ANONYMOUS;
    const user = note.n === undefined || note.s === undefined ? undefined : users?.stamped(note.n, note.s);
    if (user === undefined) throw unknownToken();
    return { kind: "user", ...user };
  }

  async function identifyUser(authorization: string | null, address: string): Promise<Client> {
    if (authorization === null) return { kind: "none" };
    const [scheme, rest] = splitScheme(authorization);
    if (scheme === "bearer") return userOfToken(rest);
    if (scheme !== "basic") throw unknownScheme();
    if (users === undefined) throw new RegistryError("UNAUTHORIZED", "there are no users here");
    return { kind: "user", ...(await users.logIn(readBasic(rest), address)) };
  }

  function lifetime(): Pick<Note, "e"> {
    return { e: Math.floor(now() / 1000) + TOKEN_LIFETIME_SECONDS };
  }

  return {
    credentialFor,
    identifyUser,
    async identify(authorization, at) {
      if (users?.havePasswords === true) return identifyUser(authorization, at.address);
      if (authorization === null) return { kind: "none" };
      const [scheme, rest] = splitScheme(authorization);
      if (scheme === "bearer") return fromToken(rest, at.registry);
      if (scheme === "basic") return fromBasic(rest, at);
      throw unknownScheme();
    },
    holdsToken(authorization) {
      const [scheme, rest] = splitScheme(authorization ?? "");
      return scheme === "bearer" && readToken(rest) !== undefined;
    },
    issue(registry, credential) {
      const note: Note = { r: registry?.key ?? NOBODY, ...lifetime() };
      if (credential === undefined) return sealer.seal(note);
      return sealer.seal({ ...note, o: credential.origin, u: credential.username, p: credential.password });
    },
    issueTo({ name }) {
      const stamp = users?.stampOf(name);
      // Removed while it logged in.
      if (stamp === undefined) throw unknownToken();
      return sealer.seal({ r: NOBODY, n: name, s: stamp, ...lifetime() } satisfies Note);
    },
  };
}

const NOBODY = "*";
const ANONYMOUS: Client = { kind: "anonymous" };

function isForNobody({ u, p, n }: Note): boolean {
  return u === undefined && p === undefined && n === undefined;
}

function unknownToken(): RegistryError {
  return new RegistryError("UNAUTHORIZED", "the token is not known here or has expired: log in again");
}

function unknownScheme(): RegistryError {
  return new RegistryError("UNAUTHORIZED", "expected Authorization of scheme Bearer or Basic");
}

function readBasic(encoded: string): Login {
  const login = parseBasic(encoded);
  if (login === undefined) throw new RegistryError("UNAUTHORIZED", "the Basic credentials cannot be read");
  return login;
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
