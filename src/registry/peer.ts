/** The address of a peer in the one form that lists, logs and trust compare. */

/**
 * Takes the IPv6 mapping off an IPv4 address that came in on a dual-stack socket: `"::ffff:192.0.2.7"` → `"192.0.2.7"`.
 * A socket that is already closed has no address: `"unknown"`, which no list matches.
 */
export function peerAddress(remoteAddress: string | undefined): string {
  if (remoteAddress === undefined || remoteAddress === "") return "unknown";
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress);
  return mapped?.[1] ?? remoteAddress.toLowerCase();
}

/** True for `127.0.0.0/8`, `::1` and peers of a unix socket: programs on this machine. */
export function isLoopbackPeer(peer: string): boolean {
  return peer === "unix" || peer === "::1" || /^127\.\d+\.\d+\.\d+$/.test(peer);
}
