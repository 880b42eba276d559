/** Which addresses a list of ranges means: the proxies we trust, the clients that may come without a login. */
import ipaddr from "ipaddr.js";

/** True for an address within the list; false for text that is no address. */
export type PeerRanges = (address: string) => boolean;

/** @param entries CIDRs, and the word `unix` for peers of our unix sockets */
export function createPeerRanges(entries: readonly string[]): PeerRanges {
  const ranges = entries.filter((entry) => entry !== "unix").map((cidr) => ipaddr.parseCIDR(cidr));
  const hasUnix = entries.includes("unix");
  return function isWithin(address) {
    if (address === "unix") return hasUnix;
    if (!ipaddr.isValid(address)) return false;
    const parsed = ipaddr.process(address); // unwraps ::ffff:192.0.2.1, which dual-stack listeners see
    return ranges.some(([base, bits]) => parsed.kind() === base.kind() && parsed.match(base, bits));
  };
}
