/** Which hosts are ours, and the https origin a request to one of them is led to. Pure. */
import type { Host } from "../registry/host.ts";

export interface RedirectTargets {
  /** `"example.com"`: it and every name below it are ours. */
  readonly domainSuffix: string | undefined;
  /** Origin of the URLs we hand out: `"https://registry.example:8443"`. */
  readonly publicUrl: string | undefined;
  /** Port of the https listener. */
  readonly httpsPort: number;
  /** `"registry.example"`, `"*.example.com"`, `"192.0.2.7"`; lower case. */
  readonly certificateNames: readonly string[];
}

/** True under the domain suffix, for the public URL's host and for the names of the certificate. */
export function isOurs(host: Host, targets: RedirectTargets): boolean {
  const { domainSuffix, publicUrl, certificateNames } = targets;
  if (domainSuffix !== undefined && (host.name === domainSuffix || host.name.endsWith(`.${domainSuffix}`))) return true;
  if (publicUrl !== undefined && host.name === new URL(publicUrl).hostname) return true;
  return certificateNames.some((name) => covers(name, host.name));
}

/** `"https://host"` or `"https://host:8443"`: the host as it was asked for, on the port that we are known by. */
export function originFor(host: Host, { publicUrl, httpsPort }: RedirectTargets): string {
  const known = publicUrl === undefined ? undefined : new URL(publicUrl);
  const port = known?.protocol === "https:" ? Number(known.port === "" ? 443 : known.port) : httpsPort;
  return `https://${host.name}${port === 443 ? "" : `:${port}`}`;
}

/** A wildcard stands for one label (RFC 6125 6.4.3). */
function covers(name: string, host: string): boolean {
  if (name.startsWith("*.")) return host.includes(".") && host.slice(host.indexOf(".")) === name.slice(1);
  return name.includes(":") ? canonicalIpv6(`[${name}]`) === canonicalIpv6(host) : name === host;
}

/** Certificates print addresses in full, people write them short. */
function canonicalIpv6(bracketed: string): string | undefined {
  return URL.canParse(`http://${bracketed}/`) ? new URL(`http://${bracketed}/`).hostname : undefined;
}
