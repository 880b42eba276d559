/**
 * Names of upstreams asked of resolvers of our own choice instead of the system's, as nginx does: only what they answer counts.
 * `/etc/hosts` is not read, and no search domain is added. The resolver that answered last is asked first; the next one is
 * asked when it is silent or says that it cannot tell. A name that one of them denies does not exist.
 */
import { Resolver } from "node:dns/promises";
import { waitUpTo } from "./wait.ts";

export type Family = 0 | 4 | 6;

/** One server's answers. Replaceable for tests. */
export interface NameServer {
  /** `"10.0.0.53:53"`, `"[fd00::53]:53"`. */
  readonly address: string;
  resolve4(host: string): Promise<readonly string[]>;
  resolve6(host: string): Promise<readonly string[]>;
}

/** No resolver could tell. The message names them and may be shown. */
export class UnresolvedError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "UnresolvedError";
  }
}

/** As many as the system's resolver takes: a silent one costs three seconds of the 25 that a client waits. */
export const MAX_RESOLVERS = 3;
/** Of the first try; the second waits twice as long. One, since a lost packet is no silence. */
const TRY_MS = 1_000;
const TRIES = 2;
/** When one family's addresses are there, the other's are not waited for long: some resolvers never answer for IPv6 (RFC 8305). */
const OTHER_FAMILY_MS = 250;
/** This machine itself, which no resolver is asked for (RFC 6761 section 6.3). */
const LOOPBACK = { 4: ["127.0.0.1"], 6: ["::1"], 0: ["::1", "127.0.0.1"] } as const;
/** The name, or its addresses of this family, do not exist: that is an answer. */
const ABSENT = new Set(["ENOTFOUND", "ENODATA"]);

/**
 * @param servers in the order in which they are asked first
 * @returns a look-up that gives addresses, IPv6 first; rejects with UnresolvedError
 */
export function createResolvers(
  servers: readonly NameServer[],
): (host: string, family: Family) => Promise<readonly string[]> {
  let preferred = 0;

  async function askAll(host: string, family: Family): Promise<readonly string[]> {
    const silences: string[] = [];
    for (let turn = 0; turn < servers.length; turn++) {
      const at = (preferred + turn) % servers.length;
      const server = servers[at];
      if (server === undefined) break;
      const answer = await askOne(server, host, family);
      if (answer.kind === "failed") {
        silences.push(`${server.address} (${answer.code})`);
        continue;
      }
      preferred = at;
      if (answer.addresses.length > 0) return answer.addresses;
      throw new UnresolvedError(`resolver ${server.address} knows no such name${familyText(family)}`);
    }
    throw new UnresolvedError(
      `no answer from ${servers.length === 1 ? "resolver" : "resolvers"} ${silences.join(", ")}`,
    );
  }

  return async (host, family) => {
    const name = host.toLowerCase().replace(/\.$/, "");
    if (name === "localhost" || name.endsWith(".localhost")) return LOOPBACK[family];
    return askAll(host, family);
  };
}

/** @param address `"10.0.0.53:53"`, `"[fd00::53]:53"` */
export function openNameServer(address: string): NameServer {
  const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
  resolver.setServers([address]);
  return {
    address,
    resolve4: (host) => resolver.resolve4(host),
    resolve6: (host) => resolver.resolve6(host),
  };
}

type Answer =
  | { readonly kind: "answered"; readonly addresses: readonly string[] }
  | { readonly kind: "failed"; readonly code: string };

async function askOne(server: NameServer, host: string, family: Family): Promise<Answer> {
  const six = family === 4 ? undefined : answerOf(server.resolve6(host));
  const four = family === 6 ? undefined : answerOf(server.resolve4(host));
  if (six === undefined || four === undefined) return (await six) ?? (await four) ?? NOTHING;
  const first = await Promise.race([six, four]);
  // A name that does not exist, or one family of it, says nothing about the other.
  const isEnough = first.kind === "answered" && first.addresses.length > 0;
  const [sixth, fourth] = isEnough
    ? await Promise.all([waitUpTo(six, OTHER_FAMILY_MS), waitUpTo(four, OTHER_FAMILY_MS)])
    : await Promise.all([six, four]);
  const addresses = [sixth, fourth].flatMap((answer) => (answer?.kind === "answered" ? answer.addresses : []));
  if (addresses.length > 0) return { kind: "answered", addresses };
  return [sixth, fourth].find((answer) => answer?.kind === "failed") ?? NOTHING;
}

const NOTHING: Answer = { kind: "answered", addresses: [] };

async function answerOf(asking: Promise<readonly string[]>): Promise<Answer> {
  try {
    return { kind: "answered", addresses: await asking };
  } catch (error) {
    // Told in words: several servers may fail before one answers.
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    return ABSENT.has(code) ? NOTHING : { kind: "failed", code };
  }
}

function familyText(family: Family): string {
  return family === 0 ? "" : `, or none with an IPv${family} address`;
}
