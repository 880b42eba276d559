/**
 * Where a connection may lead (protocol R107, R108; architecture decision 4). An operator chose a configured upstream, so it
 * may live anywhere but where clouds answer for instance metadata; redirects and realms are chosen by the upstream's answer,
 * so they get public addresses, addresses of the upstream's own kind, or what `allowAddresses` names.
 *
 * Pure: it judges addresses, it resolves and dials nothing.
 */
import ipaddr from "ipaddr.js";

/**
 * - `private`: RFC 1918, RFC 4193 and the shared range of RFC 6598
 * - `metadata`: link-local, and the other addresses where clouds hand out instance credentials
 * - `reserved`: documentation, benchmarks, tunnels, future use: not public, but some network may use them inside
 * - `nowhere`: unspecified (it would dial this machine), multicast, broadcast, unreadable: no registry lives there
 */
export type AddressKind = "public" | "private" | "loopback" | "metadata" | "reserved" | "nowhere";

/** Who chose the destination. */
export type AddressRule =
  | { readonly kind: "configured" }
  | {
      readonly kind: "derived";
      /** Kind of the address of the upstream whose answer led here. */
      readonly from: AddressKind;
      /** `Registry.allowAddresses`: CIDRs. */
      readonly allow: readonly string[];
    };

/** Metadata addresses outside the link-local ranges: AWS over IPv6, Alibaba Cloud, Azure. */
const METADATA_ADDRESSES = new Set(["fd00:ec2::254", "100.100.100.200", "168.63.129.16"]);

/** The same by name, for outgoing proxies, which resolve names themselves: Google's. */
const METADATA_NAMES = new Set(["metadata.google.internal", "metadata.goog"]);

/** Global unicast IPv6. Everything outside is reserved or embeds an IPv4 address, so it is never "public". */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR("2000::/3");

/** The address in a host as a URL spells it (`"[::1]"`, `"127.0.0.1"`), without brackets; undefined for a name. */
export function addressLiteral(host: string): string | undefined {
  const bare = host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
  if (ipaddr.IPv4.isValidFourPartDecimal(bare)) return bare;
  return bare.includes(":") && ipaddr.IPv6.isValid(bare) ? bare : undefined;
}

/**
 * True for `"2130706433"`, `"0x7f.1"`, `"0177.0.0.1"`: neither an address in its canonical form nor a name, but what
 * getaddrinfo takes for an address. URLs never hold such a host; anything else that does is refused.
 */
export function isNumericName(host: string): boolean {
  const last = host.replace(/\.$/, "").split(".").at(-1) ?? "";
  return /^(?:\d+|0x[\da-f]*)$/i.test(last) && addressLiteral(host) === undefined;
}

/** Classifies an address; IPv4 inside IPv6 (mapped, NAT64) counts as what it embeds. */
export function addressKind(address: string): AddressKind {
  if (addressLiteral(address) === undefined) return "nowhere";
  const parsed = unwrap(ipaddr.process(address));
  if (METADATA_ADDRESSES.has(parsed.toString())) return "metadata";
  switch (parsed.range()) {
    case "loopback":
      return "loopback";
    case "linkLocal":
      return "metadata";
    case "private":
    case "uniqueLocal":
    case "carrierGradeNat":
      return "private";
    case "unicast":
      return parsed instanceof ipaddr.IPv4 || parsed.match(GLOBAL_IPV6) ? "public" : "reserved";
    case "unspecified":
    case "multicast":
    case "broadcast":
      return "nowhere";
    default:
      return "reserved";
  }
}

/** May this address be dialled? Metadata addresses never may, whatever the rule allows. */
export function mayDial(address: string, rule: AddressRule): boolean {
  const kind = addressKind(address);
  if (kind === "metadata" || kind === "nowhere") return false;
  if (rule.kind === "configured" || kind === "public") return true;
  return kind === rule.from || rule.allow.some((range) => isInRange(address, range));
}

/**
 * May this host be named to an outgoing proxy, which will resolve it out of our sight? An address is judged as ever; of names,
 * those that mean the proxy's own machine count as loopback, whatever it would resolve them to (RFC 6761 section 6.3).
 */
export function mayName(host: string, rule: AddressRule): boolean {
  const literal = addressLiteral(host);
  if (literal !== undefined) return mayDial(literal, rule);
  const name = host.toLowerCase().replace(/\.$/, "");
  if (isNumericName(host) || METADATA_NAMES.has(name)) return false;
  return !/(?:^|\.)localhost$/.test(name) || mayDial("127.0.0.1", rule);
}

/** The rule for a host that an answer of `from` named; its own host is as trusted as it was. */
export function ruleTowards(host: string, from: AddressOrigin, allow: readonly string[]): AddressRule {
  if (host === from.host) return from.rule;
  return { kind: "derived", from: from.kind, allow };
}

/** Whose answer names a next host: its own host, the rule it was dialled under, and the kind of its address. */
export interface AddressOrigin {
  readonly host: string;
  readonly rule: AddressRule;
  readonly kind: AddressKind;
}

/** Is the address in this CIDR? False for a range that cannot be read. */
export function isInRange(address: string, range: string): boolean {
  if (!ipaddr.isValidCIDR(range)) return false;
  const parsed = ipaddr.process(address);
  const [base, bits] = ipaddr.parseCIDR(range);
  if (parsed instanceof ipaddr.IPv4) return base instanceof ipaddr.IPv4 && parsed.match(base, bits);
  return base instanceof ipaddr.IPv6 && parsed.match(base, bits);
}

function unwrap(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  // NAT64 (RFC 6052, /96): on networks with DNS64 every IPv4 host has such an address, private ones too.
  if (!(address instanceof ipaddr.IPv6) || address.range() !== "rfc6052") return address;
  return new ipaddr.IPv4(address.toByteArray().slice(12));
}
