/** Which addresses a list of ranges means: the proxies we trust, the clients that may come without a login. */
import ipaddr from "ipaddr.js";
import { LRUCache } from "lru-cache";

/** True for an address within the list; false for text that is no address. */
export type PeerRanges = (address: string) => boolean;

/** Reading an address takes longer than all else that is done with it, and few send most of the requests: some 100 bytes each. */
const MAX_REMEMBERED = 1024;
/** Of an IPv6 address that ends in an IPv4 one. What a header says instead of an address may be of any length. */
const MAX_ADDRESS_CHARACTERS = 45;

/** @param entries CIDRs, and the word `unix` for peers of our unix sockets */
export function createPeerRanges(entries: readonly string[]): PeerRanges {
  const ranges = entries.filter((entry) => entry !== "unix").map((cidr) => ipaddr.parseCIDR(cidr));
  const hasUnix = entries.includes("unix");
  const known = new LRUCache<string, boolean>({ max: MAX_REMEMBERED });

  function look(address: string): boolean {
    if (!ipaddr.isValid(address)) return false;
    const parsed = ipaddr.process(address); // unwraps ::ffff:192.0.2.1, which dual-stack listeners see
    return ranges.some(([base, bits]) => parsed.kind() === base.kind() && parsed.match(base, bits));
  }

  return function isWithin(address) {
    if (address === "unix") return hasUnix;
    if (ranges.length === 0 || address.length > MAX_ADDRESS_CHARACTERS) return false;
    const before = known.get(address);
    if (before !== undefined) return before;
    const found = look(address);
    known.set(address, found);
    return found;
  };
}
