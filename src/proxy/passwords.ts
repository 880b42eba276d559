/**
 * Passwords against bcrypt hashes: off the event loop, once per password in five minutes, a few at a time. A user that does
 * not exist takes as long as one that does, and whoever sends many wrong passwords waits behind himself alone.
 */
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";

export interface PasswordsDependencies {
  /** A keyed hash: memory holds no password. */
  readonly fingerprint: (...parts: string[]) => string;
  /** Whether a password fits a hash; replaced by tests. Default: Bun's bcrypt, on threads of its own. */
  readonly verify?: (password: Uint8Array, hash: string) => Promise<boolean>;
}

export interface Passwords {
  /**
   * Whether the password fits the hash. Without a hash it takes as long as against `instead`, and is false.
   * @throws RegistryError TOOMANYREQUESTS while too many wait to be checked
   */
  fits(attempt: Attempt): Promise<boolean>;
}

export interface Attempt {
  /** The client's address: it has its share of those who wait. */
  readonly address: string;
  readonly name: string;
  readonly password: string;
  /** Undefined for a name that is not known. */
  readonly hash: string | undefined;
  /** A hash of about the same cost. */
  readonly instead: string;
}

/** A pull of many layers by a client that knows only Basic sends its password with each request. */
const ACCEPTED_TTL_MS = 5 * 60_000;
/** Users and clients of a large farm; an entry is some 100 bytes. */
const MAX_ACCEPTED = 10_000;
/** They share the runtime's threads with reads of files: two leave room for these. */
const AT_ONCE = 2;
/** A few seconds of work at the usual costs. Logins are rare: tokens live an hour. */
const MAX_WAITING = 64;
const MAX_WAITING_OF_ADDRESS = 8;
/** bcrypt reads no more, and htpasswd cuts there; the runtime would hash longer ones in a way of its own. */
const MAX_BCRYPT_BYTES = 72;

export function createPasswords({ fingerprint, verify = verifyBcrypt }: PasswordsDependencies): Passwords {
  const accepted = new LRUCache<string, true>({ max: MAX_ACCEPTED, ttl: ACCEPTED_TTL_MS });
  // Bounded by MAX_WAITING, as all that follow.
  const running = new Map<string, Promise<boolean>>();
  const byAddress = new Map<string, number>();
  const waiting: (() => void)[] = [];
  let busy = 0;

  async function inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (busy >= AT_ONCE) await new Promise<void>((resolve) => void waiting.push(resolve));
    else busy += 1;
    try {
      return await work();
    } finally {
      // The next one takes over the place; only when nobody waits is it free.
      const next = waiting.shift();
      if (next === undefined) busy -= 1;
      else next();
    }
  }

  async function check(key: string, { address, password, hash, instead }: Attempt): Promise<boolean> {
    const share = byAddress.get(address) ?? 0;
    if (waiting.length >= MAX_WAITING || share >= MAX_WAITING_OF_ADDRESS) {
      throw new RegistryError("TOOMANYREQUESTS", "too many logins at once: try again", {
        headers: [["Retry-After", "1"]],
      });
    }
    byAddress.set(address, share + 1);
    try {
      const bytes = new TextEncoder().encode(password).subarray(0, MAX_BCRYPT_BYTES);
      const isRight = await inTurn(() => verify(bytes, hash ?? instead));
      if (!isRight || hash === undefined) return false;
      accepted.set(key, true);
      return true;
    } finally {
      const left = (byAddress.get(address) ?? 1) - 1;
      if (left === 0) byAddress.delete(address);
      else byAddress.set(address, left);
    }
  }

  return {
    fits(attempt) {
      // The hash is part of the key: a changed password is checked anew, and the old one is not right any more.
      const key = fingerprint("password", attempt.name, attempt.password, attempt.hash ?? "");
      if (accepted.has(key)) return Promise.resolve(true);
      const known = running.get(key);
      if (known !== undefined) return known;
      const checking = check(key, attempt).finally(() => running.delete(key));
      running.set(key, checking);
      return checking;
    },
  };
}

/** An empty password is never right; `$2y$` is what others call `$2b$`. @throws for a hash that cannot be read */
function verifyBcrypt(password: Uint8Array, hash: string): Promise<boolean> {
  if (password.byteLength === 0) return Promise.resolve(false);
  return Bun.password.verify(password, hash.replace(/^\$2y\$/, "$2b$"), "bcrypt");
}
