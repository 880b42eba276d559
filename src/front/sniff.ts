/** What a connection speaks, from its first bytes: one port serves TLS, plain HTTP and, with interception, CONNECT. */

export type Speech = "tls" | "connect" | "http";

/** First byte of a TLS handshake record; no HTTP method starts with it (RFC 8446 5.1). */
const TLS_HANDSHAKE = 0x16;
const CONNECT = new TextEncoder().encode("CONNECT ");

/** Bytes that settle it in every case. */
export const SNIFFED_BYTES = CONNECT.byteLength;

/** @returns undefined while the bytes may still become CONNECT */
export function speechOf(bytes: Uint8Array): Speech | undefined {
  if (bytes[0] === TLS_HANDSHAKE) return "tls";
  const shared = Math.min(bytes.byteLength, CONNECT.byteLength);
  for (let i = 0; i < shared; i += 1) if (bytes[i] !== CONNECT[i]) return "http";
  return shared === CONNECT.byteLength ? "connect" : undefined;
}
