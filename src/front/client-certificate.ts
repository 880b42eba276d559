/**
 * Who a client is by the certificate it showed: the common name of its subject, and only while the certificate holds. TLS
 * verified it against the authorities of that moment, purpose and dates included; a connection may outlive both.
 */
import type { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";

export interface ClientCertificateDependencies {
  /** Those of the handshake. */
  readonly verifiedBy: readonly X509Certificate[];
  /** Those in force now. */
  readonly authorities: () => readonly X509Certificate[] | undefined;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** Longer than the names of people and machines (RFC 5280 says 64). */
const MAX_NAME_CHARACTERS = 256;

/**
 * The name of a connection's user, asked anew for each request; undefined for a client that showed no certificate, or one
 * that was not verified. Call it when the handshake is done.
 */
export function certificateUserOf(
  socket: TLSSocket,
  { verifiedBy, authorities, now }: ClientCertificateDependencies,
): (() => string | undefined) | undefined {
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  const name = certificate === undefined ? undefined : commonName(certificate);
  if (certificate === undefined || name === undefined) return undefined;
  const endsAtMs = Date.parse(certificate.validTo);
  let judged: Judgement = { by: verifiedBy, holds: true };

  return function certificateUser() {
    const current = authorities();
    if (judged.by !== current) judged = { by: current, holds: isTrusted(certificate, judged, current) };
    return judged.holds && now() <= endsAtMs ? name : undefined;
  };
}

interface Judgement {
  readonly by: readonly X509Certificate[] | undefined;
  readonly holds: boolean;
}

/**
 * After the file of authorities was read again. What came through an intermediate certificate cannot be checked without
 * it, so a connection of that kind must shake hands again when the authorities really changed.
 */
function isTrusted(
  certificate: X509Certificate,
  before: Judgement,
  authorities: readonly X509Certificate[] | undefined,
): boolean {
  if (authorities === undefined || !before.holds) return false;
  if (fingerprints(before.by ?? []) === fingerprints(authorities)) return true;
  return authorities.some((authority) => certificate.checkIssued(authority) && certificate.verify(authority.publicKey));
}

function fingerprints(certificates: readonly X509Certificate[]): string {
  return certificates.map(({ fingerprint256 }) => fingerprint256).join(" ");
}

/** A subject with two common names, or with one that only looks like one, names nobody. */
function commonName(certificate: X509Certificate): string | undefined {
  const lines = certificate.subject.split("\n").filter((line) => line.startsWith("CN="));
  const [name] = lines.map((line) => line.slice("CN=".length));
  if (lines.length !== 1 || name === undefined || name === "" || name.length > MAX_NAME_CHARACTERS) return undefined;
  return certificate.toLegacyObject().subject.CN === name ? name : undefined;
}
