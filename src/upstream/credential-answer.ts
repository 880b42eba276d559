/**
 * What a program says when it is asked for a credential: JSON of our form or docker's, or the bare password where the user
 * name is configured. No error holds any of it.
 *
 *     {"username": "AWS", "password": "…", "expiresAt": "2026-01-02T03:04:05Z"}    or "expiresIn": seconds
 *     {"token": "…"}                                                               an identity token
 *     {"ServerURL": "…", "Username": "<token>", "Secret": "…"}                     docker's credential helpers
 */
import { IDENTITY_TOKEN_USER } from "./token.ts";

export interface Secret {
  /** `"<token>"` for an identity token. */
  readonly username: string;
  readonly password: string;
  /** Wall clock, milliseconds; undefined when the program did not say. */
  readonly expiresAtMs: number | undefined;
}

export interface AnswerReading {
  /** Where it is configured: the answer may be the bare password then. */
  readonly username: string | undefined;
  /** Wall clock, milliseconds. */
  readonly nowMs: number;
}

/** @throws Error that says what was expected */
export function parseAnswer(output: string, { username, nowMs }: AnswerReading): Secret {
  const text = output.trim();
  const fields = parseObject(text);
  if (fields === undefined) {
    if (username === undefined) throw new Error("expected JSON with username and password, or a token");
    return { username, password: parsePassword(text), expiresAtMs: undefined };
  }
  const password = parsePassword(fields["password"] ?? fields["token"] ?? fields["Secret"]);
  const named = fields["username"] ?? fields["Username"] ?? username;
  const isIdentityToken = named === undefined && fields["password"] === undefined && fields["token"] !== undefined;
  return {
    username: isIdentityToken ? IDENTITY_TOKEN_USER : parseUsername(named),
    password,
    expiresAtMs: expiryOf(fields, nowMs),
  };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? { ...value } : undefined;
  } catch {
    // Not JSON: it may be a bare password.
    return undefined;
  }
}

function parsePassword(value: unknown): string {
  if (typeof value === "string" && value !== "" && !/\p{Cc}/u.test(value)) return value;
  throw new Error("expected a password or token of one line");
}

/** A colon would end the name in Basic credentials (RFC 7617 section 2). */
function parseUsername(value: unknown): string {
  if (typeof value === "string" && value !== "" && !/[:\p{Cc}]/u.test(value)) return value;
  throw new Error("expected a user name without colon and control characters");
}

function expiryOf({ expiresAt, expiresIn }: Record<string, unknown>, nowMs: number): number | undefined {
  if (expiresAt === undefined && expiresIn === undefined) return undefined;
  const atMs = expiresAt === undefined ? momentAfter(expiresIn, nowMs) : parseMoment(expiresAt);
  if (atMs <= nowMs) throw new Error("expected a secret that still holds, got one that has expired");
  return atMs;
}

function parseMoment(value: unknown): number {
  const isMoment =
    typeof value === "string" && /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(value);
  const ms = isMoment ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms)) throw new Error("expected expiresAt as a moment such as 2026-01-02T03:04:05Z");
  return ms;
}

function momentAfter(seconds: unknown, nowMs: number): number {
  if (typeof seconds === "number" && Number.isFinite(seconds) && seconds > 0) return nowMs + seconds * 1000;
  throw new Error("expected expiresIn as a number of seconds above 0");
}
