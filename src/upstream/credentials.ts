/**
 * The secrets of configured credentials, as they are now. Those of the map are at hand; those that programs tell are kept
 * until they expire and renewed before that:
 *
 *     asked ──▶ held ─────────── 80 % of its life ─────────── expired
 *     waits     at once          at once, renewed behind      waits for the program, or fails
 *
 * One run of a program per credential at a time, however many wait. Nothing is asked while nobody needs it. A failed renewal
 * keeps what is held until it expires. No message holds a secret.
 */
import { createHmac, randomBytes } from "node:crypto";
import { UpstreamError } from "../errors.ts";
import type { ConfiguredCredential, CredentialSource } from "../registry/registry.ts";
import { runProgram, type RunProgram } from "./credential-program.ts";
import { askSource, knownSecret, type AskedSource } from "./credential-source.ts";
import type { Credential } from "./request.ts";

export interface Obtained {
  readonly credential: Credential;
  /** Wall clock, milliseconds: when it is asked for anew at the latest. Undefined for what stands in the map. */
  readonly expiresAtMs: number | undefined;
}

export interface Credentials {
  /** @throws UpstreamError `token` when the source gives none */
  current(configured: ConfiguredCredential): Promise<Credential>;
  /** The same, with its end. @throws UpstreamError `token` */
  obtain(configured: ConfiguredCredential): Promise<Obtained>;
  /**
   * A registry answered 401 or 403 to it. That may be for want of a right, or because it was revoked before its time: its
   * program is asked once more before it is used again, at most once in 30 s.
   */
  refused(credential: Credential): void;
  /** Ends the programs that run. */
  close(): void;
}

export interface CredentialsDependencies {
  /** Wall clock, milliseconds. */
  readonly now?: () => number;
  readonly run?: RunProgram;
  /** Our own environment, of which programs get what was asked for. Default: that of the process. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told when a source fails. No secrets. */
  readonly notice?: (event: CredentialNotice) => void;
}

export interface CredentialNotice {
  /** Host of the registry the credential is for. */
  readonly host: string;
  readonly message: string;
}

/** For programs that do not say: docker's helpers never do. They keep for themselves what is dear to get. */
const DEFAULT_LIFETIME_MS = 5 * 60_000;
/** Longer promises are not believed, so that what was taken back is noticed within a day. ECR's tokens live for 12 hours. */
const MAX_LIFETIME_MS = 24 * 60 * 60_000;
/** The last fifth is for trying again when the source fails. */
const USED_SHARE = 0.8;
/** A source that fails is left alone for this long: each run is a process, and often a request to somebody who counts them. */
const RETRY_MS = 5_000;
/** Who may not read a repository is refused by its registry each time; that must not run a program each time. */
const REFUSAL_MS = 30_000;

interface Held {
  readonly obtained: Obtained & { readonly expiresAtMs: number };
  readonly renewAtMs: number;
}

interface Entry {
  readonly origin: string;
  readonly source: AskedSource;
  held: Held | undefined;
  /** The credential held was refused by its registry. */
  isDoubted: boolean;
  refusedAtMs: number;
  flight: Promise<Held> | undefined;
  failure: { readonly error: unknown; readonly retryAtMs: number } | undefined;
}

export function createCredentials(dependencies: CredentialsDependencies = {}): Credentials {
  const { now = Date.now, run = runProgram, env = process.env, notice = () => undefined } = dependencies;
  // A map that is loaded again has new credentials: the old ones go with it.
  const entries = new WeakMap<ConfiguredCredential, Entry>();
  const knowns = new WeakMap<ConfiguredCredential, Obtained>();
  const entryOfCredential = new WeakMap<Credential, Entry>();
  const idKey = randomBytes(32);
  const stop = new AbortController();

  /** A new secret has a new id, so that it never uses the tokens of the old one. */
  function credentialOf(origin: string, { username, password }: { username: string; password: string }): Credential {
    const hash = createHmac("sha256", idKey).update(JSON.stringify([origin, username, password]));
    return { origin, id: `configured:${hash.digest("base64url")}`, username, password, account: username };
  }

  async function ask(entry: Entry): Promise<Held> {
    const { origin, source } = entry;
    try {
      const secret = await askSource(source, { run, env, now, signal: stop.signal });
      const askedAtMs = now();
      const lifetimeMs = Math.min((secret.expiresAtMs ?? askedAtMs + DEFAULT_LIFETIME_MS) - askedAtMs, MAX_LIFETIME_MS);
      const obtained = { credential: credentialOf(origin, secret), expiresAtMs: askedAtMs + lifetimeMs };
      entryOfCredential.set(obtained.credential, entry);
      entry.held = { obtained, renewAtMs: askedAtMs + lifetimeMs * USED_SHARE };
      entry.failure = undefined;
      return entry.held;
    } catch (error) {
      entry.failure = { error, retryAtMs: now() + RETRY_MS };
      const why = error instanceof UpstreamError ? error.message : "an unforeseen error";
      notice({ host: new URL(origin).host, message: `credential not renewed: ${why}` });
      throw error;
    } finally {
      entry.isDoubted = false;
    }
  }

  function renew(entry: Entry): Promise<Held> {
    entry.flight ??= ask(entry).finally(() => {
      entry.flight = undefined;
    });
    return entry.flight;
  }

  async function obtainAsked(entry: Entry): Promise<Obtained> {
    const { held, failure } = entry;
    const nowMs = now();
    const mayAsk = failure === undefined || nowMs >= failure.retryAtMs;
    const isGood = held !== undefined && nowMs < held.obtained.expiresAtMs;
    if (!isGood) {
      if (!mayAsk) throw failure.error;
      return (await renew(entry)).obtained;
    }
    if (entry.isDoubted && mayAsk) return (await renew(entry).catch(() => held)).obtained; // told by ask()
    // Behind this request; what goes wrong is told by ask().
    if (nowMs >= held.renewAtMs && mayAsk) void renew(entry).catch(() => undefined);
    return held.obtained;
  }

  function entryOf(configured: ConfiguredCredential, source: AskedSource): Entry {
    const known = entries.get(configured);
    if (known !== undefined) return known;
    const { origin } = configured;
    const none = { held: undefined, isDoubted: false, refusedAtMs: -Infinity, flight: undefined, failure: undefined };
    const entry: Entry = { origin, source, ...none };
    entries.set(configured, entry);
    return entry;
  }

  function knownOf(configured: ConfiguredCredential, source: Exclude<CredentialSource, AskedSource>): Obtained {
    const known = knowns.get(configured);
    if (known !== undefined) return known;
    const obtained = { credential: credentialOf(configured.origin, knownSecret(source)), expiresAtMs: undefined };
    knowns.set(configured, obtained);
    return obtained;
  }

  async function obtain(configured: ConfiguredCredential): Promise<Obtained> {
    const { source } = configured;
    if (source.kind === "helper" || source.kind === "exec") return obtainAsked(entryOf(configured, source));
    return knownOf(configured, source);
  }

  return {
    obtain,
    current: async (configured) => (await obtain(configured)).credential,
    refused(credential) {
      const entry = entryOfCredential.get(credential);
      const isHeld = entry?.held?.obtained.credential === credential;
      if (entry === undefined || !isHeld || now() - entry.refusedAtMs < REFUSAL_MS) return;
      entry.refusedAtMs = now();
      entry.isDoubted = true;
    },
    close: () => stop.abort(),
  };
}
