/**
 * How often somebody may be wrong: ten passwords a minute for an address and a user name together, so that a guesser
 * is slow and locks nobody out but himself. One wrong password counts once however often it comes: a node with an old
 * pull secret repeats it for ever, and behind its address may be others of that name who know better. What waits in memory is
 * bounded, and the oldest goes first.
 *
 * Own code: the common rate limiters for node keep each key in a Map until its time is over, so that whoever invents
 * user names fills the memory; over lru-cache there is nothing left for them to do.
 */
import ipaddr from "ipaddr.js";
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";

export interface LoginLimit {
  /** @throws RegistryError TOOMANYREQUESTS with Retry-After for who failed too often */
  check(address: string, name: string): void;
  /** @param guess names the password without revealing it: a keyed hash */
  failed(address: string, name: string, guess: string): void;
}

const MAX_FAILURES = 10;
const WINDOW_MS = 60_000;
/** Some 10 MB at worst. Who pushes an entry out had to fail this often himself, each time at the cost of a hash. */
const MAX_KEYS = 20_000;
/** Enough to tell ten guesses apart. */
const GUESS_CHARACTERS = 12;
/** Longer names are one to the limit: none of them can be right. */
const MAX_NAME_CHARACTERS = 256;

interface Failures {
  /** Ten at most. */
  readonly guesses: Set<string>;
  /** Milliseconds on the clock of `now`. */
  readonly untilMs: number;
}

/** @param now milliseconds, never going back */
export function createLoginLimit(now: () => number): LoginLimit {
  const failures = new LRUCache<string, Failures>({ max: MAX_KEYS });

  function current(key: string): Failures | undefined {
    const known = failures.get(key);
    return known !== undefined && known.untilMs > now() ? known : undefined;
  }

  return {
    check(address, name) {
      const known = current(keyOf(address, name));
      if (known === undefined || known.guesses.size < MAX_FAILURES) return;
      const seconds = Math.max(1, Math.ceil((known.untilMs - now()) / 1000));
      throw new RegistryError("TOOMANYREQUESTS", "too many failed logins: try again later", {
        headers: [["Retry-After", String(seconds)]],
      });
    },
    failed(address, name, guess) {
      const key = keyOf(address, name);
      const known = current(key) ?? { guesses: new Set<string>(), untilMs: now() + WINDOW_MS };
      if (known.guesses.size < MAX_FAILURES) known.guesses.add(guess.slice(0, GUESS_CHARACTERS));
      failures.set(key, known);
    },
  };
}

function keyOf(address: string, name: string): string {
  return `${networkOf(address)} ${name.slice(0, MAX_NAME_CHARACTERS)}`;
}

/** One customer has a whole /64 of IPv6 addresses, and as many guesses, if each counted alone. */
function networkOf(address: string): string {
  if (!ipaddr.isValid(address)) return address;
  const parsed = ipaddr.process(address);
  return parsed.kind() === "ipv4" ? parsed.toString() : parsed.toByteArray().slice(0, 8).join(".");
}
