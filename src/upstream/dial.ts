/**
 * From a host name to the one address that is dialled. A name is resolved once, its addresses are judged, and of those
 * allowed the first that takes a connection is chosen; the caller connects to that address, never to the name again. A check
 * before a second look-up would be open to rebinding (architecture decision 4).
 *
 *     name → lookup → allowed addresses → race (RFC 8305) → address, remembered for a minute
 */
import { lookup as dnsLookup } from "node:dns/promises";
import { connect } from "node:net";
import { LRUCache } from "lru-cache";
import { UpstreamError } from "../errors.ts";
import { type AddressKind, type AddressRule, addressKind, addressLiteral, isNumericName, mayDial } from "./address.ts";
import { createResolvers, openNameServer, UnresolvedError } from "./resolver.ts";
import { type Limits, waitFor } from "./wait.ts";

/** All addresses of a name, best first. */
export type Lookup = (host: string, family: 0 | 4 | 6) => Promise<readonly string[]>;

/** The first of the addresses that takes a connection; throws UpstreamError `connect` or `timeout` when none does. */
export type Race = (addresses: readonly string[], port: number, timeoutMs: number) => Promise<string>;

export interface DialOptions {
  readonly connectTimeoutMs: number;
  /** Of what names lead to. An address that stands in a URL is dialled whatever this says. */
  readonly family: 0 | 4 | 6;
  /** `"10.0.0.53:53"`, `"[fd00::53]:53"`: asked for names instead of the system. Default: none. */
  readonly resolvers?: readonly string[] | undefined;
}

export interface DialDependencies {
  readonly lookup?: Lookup | undefined;
  readonly race?: Race | undefined;
}

export interface Reached {
  /** Without brackets. */
  readonly address: string;
  readonly kind: AddressKind;
}

export interface Dial {
  /**
   * The live, allowed address of a host (a name, or a literal as URLs spell it).
   * @throws UpstreamError `refused-address` before anything is dialled; `connect`; `timeout`
   */
  reach(target: DialTarget, limits: Limits): Promise<Reached>;
  /** Forgets the choice after a failure, so that the next request chooses again. */
  forget(target: DialTarget): void;
}

export interface DialTarget {
  readonly host: string;
  readonly port: number;
  readonly rule: AddressRule;
}

/** Shorter than any sensible failover plan, longer than a pull's burst of requests. */
const REMEMBER_MS = 60_000;
/** Registries, their token servers and their CDNs: a few hundred at most. */
const MAX_REMEMBERED = 1000;
/** RFC 8305, section 5: "Connection Attempt Delay". */
const STAGGER_MS = 250;
/** A name with more addresses is a CDN: the first few decide. */
const MAX_CANDIDATES = 6;

export function createDial(options: DialOptions, dependencies: DialDependencies = {}): Dial {
  const { lookup = lookupFor(options), race = raceConnections } = dependencies;
  const choices = new LRUCache<string, Promise<Reached>>({ max: MAX_REMEMBERED, ttl: REMEMBER_MS });

  async function choose({ host, port, rule }: DialTarget): Promise<Reached> {
    const allowed = (await resolve(host)).filter((address) => mayDial(address, rule)).slice(0, MAX_CANDIDATES);
    if (allowed.length === 0)
      throw new UpstreamError("refused-address", `${host} leads to an address that may not be dialled`);
    const address = await race(interleave(allowed), port, options.connectTimeoutMs);
    return { address, kind: addressKind(address) };
  }

  async function resolve(host: string): Promise<readonly string[]> {
    const literal = addressLiteral(host);
    if (literal !== undefined) return [literal];
    if (isNumericName(host))
      throw new UpstreamError("refused-address", `${host} is neither a name nor a canonical address`);
    try {
      return await lookup(host, options.family);
    } catch (cause) {
      throw new UpstreamError("connect", `${host} could not be resolved: ${whyOf(cause)}`, {
        reach: "unreached",
        cause,
      });
    }
  }

  return {
    reach(target, limits) {
      const key = keyOf(target);
      // The choice is shared by everyone who asks meanwhile, so it must not end with the first who leaves.
      const choice = choices.get(key) ?? choose(target);
      choices.set(key, choice, { noUpdateTTL: true });
      choice.catch(() => forgetChoice(key, choice));
      return waitFor(choice, { ...limits, what: `connection to ${target.host}` });
    },
    forget(target) {
      choices.delete(keyOf(target));
    },
  };

  function forgetChoice(key: string, choice: Promise<Reached>): void {
    if (choices.peek(key) === choice) choices.delete(key);
  }
}

/** Two rules may choose differently among one name's addresses. */
function keyOf({ host, port, rule }: DialTarget): string {
  const judge = rule.kind === "configured" ? "configured" : `${rule.from} ${rule.allow.join(",")}`;
  return `${host} ${port} ${judge}`;
}

function lookupFor({ resolvers = [] }: DialOptions): Lookup {
  return resolvers.length === 0 ? systemLookup : createResolvers(resolvers.map(openNameServer));
}

async function systemLookup(host: string, family: 0 | 4 | 6): Promise<readonly string[]> {
  const found = await dnsLookup(host, { all: true, family, order: "verbatim" });
  return found.map(({ address }) => address);
}

/** IPv6 and IPv4 in turns, beginning with the family the resolver put first (RFC 8305, section 4). */
function interleave(addresses: readonly string[]): readonly string[] {
  const isFirstFamily = (address: string) => address.includes(":") === addresses[0]?.includes(":");
  const first = addresses.filter(isFirstFamily);
  const second = addresses.filter((address) => !isFirstFamily(address));
  return first
    .flatMap((address, index) => [address, ...second.slice(index, index + 1)])
    .concat(second.slice(first.length));
}

/**
 * Opens connections one after the other, 250 ms apart or as soon as the one before failed; the first that stands wins and
 * all are closed again: only the address is wanted.
 */
function raceConnections(addresses: readonly string[], port: number, timeoutMs: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const sockets = new Set<ReturnType<typeof connect>>();
  let next = 0;
  let failed = 0;
  let lastCode = "no address";
  const fail = (kind: "connect" | "timeout", why: string) =>
    reject(
      new UpstreamError(kind, `no connection to port ${port} of ${addresses.join(", ")}: ${why}`, {
        reach: "unreached",
      }),
    );
  const deadline = setTimeout(fail, timeoutMs, "timeout", `none within ${timeoutMs} ms`);
  const stagger = setInterval(attempt, STAGGER_MS);
  attempt();
  return promise.finally(() => {
    clearTimeout(deadline);
    clearInterval(stagger);
    for (const socket of sockets) socket.destroy();
  });

  function attempt(): void {
    const host = addresses[next++];
    if (host === undefined) return;
    const socket = connect({ host, port });
    sockets.add(socket);
    socket.once("connect", () => resolve(host));
    socket.once("error", (error) => {
      sockets.delete(socket);
      lastCode = codeOf(error);
      if (++failed === addresses.length) fail("connect", lastCode);
      else attempt();
    });
  }
}

function whyOf(error: unknown): string {
  return error instanceof UnresolvedError ? error.message : codeOf(error);
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown error";
}
