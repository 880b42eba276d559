/**
 * Who may read and write what at a fake registry, and the tokens its token server has issued.
 * Tokens are opaque and remembered here: a test ends their life with `expireTokens()` instead of waiting.
 */
import { randomUUID } from "node:crypto";

export interface FakeUser {
  password: string;
  /** Patterns of repositories the user may read and write: exact, `org/**`, or `**`. Default: all. */
  repositories?: string[];
}

export interface FakeAccess {
  readonly users: Record<string, FakeUser>;
  /** Patterns of repositories that an anonymous client may not read. */
  privateRepositories: string[];
  /** `user` undefined is the anonymous client. */
  mayRead(user: string | undefined, repository: string): boolean;
  mayWrite(user: string | undefined, repository: string): boolean;
  /** Name of the user whose `Basic` header this is; `"bad"` when it is nobody's; undefined without one. */
  basicUser(authorization: string | null): { user: string } | "bad" | undefined;
  issueToken(token: IssuedToken, length?: number): string;
  /** What a `Bearer` header carries; `"bad"` for unknown and expired tokens; undefined without one. */
  bearer(authorization: string | null): IssuedToken | "bad" | undefined;
  /** Refresh ("identity") tokens: protocol R99. */
  issueRefreshToken(user: string): string;
  refreshUser(token: string): string | undefined;
  /** Every token issued so far is refused from now on. */
  expireTokens(): void;
}

export interface IssuedToken {
  readonly user: string | undefined;
  /** Repository → actions granted. */
  readonly granted: ReadonlyMap<string, readonly string[]>;
}

export function createFakeAccess(users: Record<string, FakeUser>, privateRepositories: string[]): FakeAccess {
  const tokens = new Map<string, IssuedToken>();
  const refreshTokens = new Map<string, string>();
  const access: FakeAccess = {
    users,
    privateRepositories,
    mayRead(user, repository) {
      if (!access.privateRepositories.some((pattern) => isMatch(pattern, repository))) return true;
      return access.mayWrite(user, repository);
    },
    mayWrite(user, repository) {
      const known = user === undefined ? undefined : users[user];
      if (known === undefined) return false;
      return (known.repositories ?? ["**"]).some((pattern) => isMatch(pattern, repository));
    },
    basicUser(authorization) {
      const encoded = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? "")?.[1];
      if (encoded === undefined) return undefined;
      const [, user = "", password = ""] = /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, "base64").toString()) ?? [];
      return users[user]?.password === password ? { user } : "bad";
    },
    issueToken(token, length = 0) {
      const text = `fake.${randomUUID()}`.padEnd(length, "x");
      tokens.set(text, token);
      return text;
    },
    bearer(authorization) {
      const text = /^Bearer (\S+)$/i.exec(authorization ?? "")?.[1];
      return text === undefined ? undefined : (tokens.get(text) ?? "bad");
    },
    issueRefreshToken(user) {
      const text = `refresh.${randomUUID()}`;
      refreshTokens.set(text, user);
      return text;
    },
    refreshUser: (token) => refreshTokens.get(token),
    expireTokens: () => tokens.clear(),
  };
  return access;
}

function isMatch(pattern: string, repository: string): boolean {
  if (pattern === "**") return true;
  return pattern.endsWith("/**") ? repository.startsWith(pattern.slice(0, -2)) : pattern === repository;
}
