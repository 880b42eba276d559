/**
 * Layover's own users: who they are, by password or by a verified certificate, and what each may do where. The lists come
 * from files and may change between two requests: every question is answered from the lists in force, so that a removed
 * user, a changed password and a changed rule count at once.
 */
import { RegistryError } from "../errors.ts";
import type { Endpoint } from "../registry/endpoint.ts";
import { registryNamed } from "../registry/lookup.ts";
import { matchesAny } from "../registry/pattern.ts";
import type { Registry, RegistryMap } from "../registry/registry.ts";
import type { Route } from "../registry/route.ts";
import type { LoginLimit } from "./login-limit.ts";
import type { Passwords } from "./passwords.ts";

/** What a user may do in a repository. */
export type Right = "pull" | "push" | "delete";
export type RepositoryOf = Pick<Route, "registry" | "repository">;

/** What a request needs. An upload that is asked after or given up is still one. */
export function rightToAsk(method: string, { kind }: Pick<Endpoint, "kind">): Right {
  if (kind === "upload") return "push";
  if (method === "GET" || method === "HEAD") return "pull";
  return method === "DELETE" ? "delete" : "push";
}

/** A user name and password as a client sent them. */
export interface Login {
  readonly username: string;
  readonly password: string;
}

/** Repositories of one registry, or everything. */
export type RepositoryPattern =
  | { readonly kind: "all" }
  /** `registry` is a key or host of the map, `pattern` a glob of names there. */
  | { readonly kind: "registry"; readonly registry: string; readonly pattern: string };

export interface AccessRule {
  /** Names of users; `*` for each of them, `anonymous` for clients that are no user. */
  readonly users: readonly string[];
  readonly repositories: readonly RepositoryPattern[];
  readonly rights: readonly Right[];
}

/** What the files say, as they are now. */
export interface UserLists {
  /** Name → bcrypt hash; undefined without `--htpasswd`. */
  readonly hashes: ReadonlyMap<string, string> | undefined;
  /** Undefined without `--access-rules`: then users may pull everything, and others nothing. */
  readonly rules: readonly AccessRule[] | undefined;
}

/** A user, proven for this request. */
export interface User {
  readonly name: string;
  may(right: Right, where: RepositoryOf): boolean;
}

export interface Users {
  /** Whether there are users with passwords: then credentials that arrive are theirs, and no registry's. */
  readonly havePasswords: boolean;
  /** @throws RegistryError UNAUTHORIZED for a wrong name or password, TOOMANYREQUESTS for who was wrong too often */
  logIn(login: Login, address: string): Promise<User>;
  /** A user whose certificate was verified. */
  certified(name: string): User;
  /** What a token of this user must carry: another one once the password changed, undefined once the user is gone. */
  stampOf(name: string): string | undefined;
  /** The user of a token with this stamp; undefined when it does not hold any more. */
  stamped(name: string, stamp: string): User | undefined;
  /** What clients may do that are no user. */
  anonymousMay(right: Right, where: RepositoryOf): boolean;
  /** Whether there is anything that `anonymousMay`. */
  anonymousMayAnything(): boolean;
}

export interface UsersDependencies {
  readonly lists: () => UserLists;
  readonly map: () => RegistryMap;
  readonly passwords: Passwords;
  readonly limit: LoginLimit;
  readonly fingerprint: (...parts: string[]) => string;
}

/** Stands in rules for who is no user; no user can have this name. */
export const ANONYMOUS_NAME = "anonymous";
export const ANY_USER = "*";

export function createUsers({ lists, map, passwords, limit, fingerprint }: UsersDependencies): Users {
  const userOf = (name: string): User => ({
    name,
    may: (right, where) => allows({ kind: "user", name }, right, where),
  });

  function allows(who: Who, right: Right, where: RepositoryOf): boolean {
    const { rules } = lists();
    if (rules === undefined) return who.kind === "user" && right === "pull";
    return rules.some(
      (rule) =>
        rule.rights.includes(right) &&
        isFor(rule, who) &&
        rule.repositories.some((pattern) => matches(pattern, where, map())),
    );
  }

  function stampOf(name: string): string | undefined {
    const hash = lists().hashes?.get(name);
    return hash === undefined ? undefined : fingerprint("user", name, hash);
  }

  return {
    get havePasswords() {
      return lists().hashes !== undefined;
    },
    async logIn({ username, password }, address) {
      limit.check(address, username);
      const { hashes } = lists();
      const hash = hashes?.get(username);
      const instead = hashes?.values().next().value;
      const attempt = { address, name: username, password, hash };
      if (instead !== undefined && (await passwords.fits({ ...attempt, instead }))) return userOf(username);
      limit.failed(address, username, fingerprint("guess", username, password));
      throw new RegistryError("UNAUTHORIZED", "wrong user name or password");
    },
    certified: userOf,
    stampOf,
    stamped: (name, stamp) => (stampOf(name) === stamp ? userOf(name) : undefined),
    anonymousMay: (right, where) => allows({ kind: "anonymous" }, right, where),
    anonymousMayAnything: () => lists().rules?.some((rule) => isFor(rule, { kind: "anonymous" })) === true,
  };
}

type Who = { readonly kind: "user"; readonly name: string } | { readonly kind: "anonymous" };

/** A certificate may hold any name, also the words that mean something else here: they are nobody's. */
function isFor({ users }: AccessRule, who: Who): boolean {
  if (who.kind === "anonymous") return users.includes(ANONYMOUS_NAME);
  if (users.includes(ANY_USER)) return true;
  return who.name !== ANONYMOUS_NAME && users.includes(who.name);
}

/** A registry that the map does not have, or not any more, is no registry: the pattern matches nothing. */
function matches(pattern: RepositoryPattern, { registry, repository }: RepositoryOf, map: RegistryMap): boolean {
  if (pattern.kind === "all") return true;
  if (registryNamed(pattern.registry, map)?.key !== registry.key) return false;
  return matchesAny([inRegistry(pattern.pattern, registry)], repository);
}

/** On Docker Hub `nginx` is `library/nginx`, in a rule as everywhere (protocol R127). */
function inRegistry(pattern: string, { isDockerHub }: Registry): string {
  return isDockerHub && pattern !== "**" && !pattern.includes("/") ? `library/${pattern}` : pattern;
}
