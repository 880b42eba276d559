/**
 * Which token server may be asked, and which may see a credential (protocol R105–R107, T26). Anybody who can answer for a
 * registry can name a realm; a credential goes only to the registry's own domain, or where the operator says.
 */
import { getDomain } from "tldts";
import { UpstreamError } from "../errors.ts";

/**
 * The realm's URL.
 * @throws UpstreamError `bad-answer` when it is no http URL, or plain http for an https upstream (protocol R107)
 */
export function parseRealm(realm: string, upstream: URL): URL {
  const url = URL.parse(realm);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new UpstreamError("bad-answer", `${upstream.origin}: the challenge's realm is no http URL`);
  }
  if (upstream.protocol === "https:" && url.protocol !== "https:") {
    throw new UpstreamError("bad-answer", `${upstream.origin}: the realm at ${url.host} is not https`);
  }
  url.username = "";
  url.password = "";
  url.hash = "";
  return url;
}

/**
 * May credentials for the upstream be shown to the realm? Yes on the same host, under the same registrable domain, and for
 * the hosts (`"auth.example"`, `"auth.example:8443"`) the operator trusts. Addresses and bare names have no domain.
 */
export function mayReceiveCredentials(realm: URL, upstream: URL, trustedRealms: readonly string[]): boolean {
  if (realm.hostname === upstream.hostname) return true;
  if (trustedRealms.some((trusted) => isHost(realm, trusted.toLowerCase()))) return true;
  const domain = registrableDomain(upstream.hostname);
  return domain !== undefined && domain === registrableDomain(realm.hostname);
}

function isHost(url: URL, host: string): boolean {
  return url.hostname === host || url.host === host;
}

/** Private suffixes count: two tenants of one hosting domain are strangers. Addresses and bare names have none. */
function registrableDomain(host: string): string | undefined {
  return getDomain(host, { allowPrivateDomains: true }) ?? undefined;
}
