/** The lines of the table of options (`options.ts`) that say how upstreams are asked. */
import { COUNT, COUNT_OR_ZERO, PROXY, RESOLVERS, oneOf, time } from "./kinds.ts";
import { option } from "./option.ts";

export const UPSTREAM_OPTIONS = {
  upstreamProxy: option(PROXY, {
    group: "Upstreams",
    flag: "upstream-proxy",
    inherited: ["http_proxy", "https_proxy", "all_proxy", "no_proxy"],
    help: "Proxy towards registries: http, https, socks5 or socks5h. A registry's own proxy in the map wins; hosts in no_proxy are asked directly.",
  }),
  upstreamIp: option(oneOf(["both", "ipv4", "ipv6"]), {
    group: "Upstreams",
    flag: "upstream-ip",
    inherited: ["DISABLE_IPV6"],
    default: "both",
    help: "Which addresses of upstreams' names are used: IPv4, IPv6 or both. An address that stands in a URL is used as it is.",
  }),
  resolver: option(RESOLVERS, {
    group: "Upstreams",
    flag: "resolver",
    defaultText: "the system's",
    help: "Address of a DNS server, such as 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53, that is asked for upstreams' names instead of the system. May be repeated, up to three times: the next is asked when one does not answer.",
  }),
  connectTimeout: option(time(1), {
    group: "Upstreams",
    flag: "connect-timeout",
    inherited: ["PROXY_CONNECT_TIMEOUT", "PROXY_CONNECT_CONNECT_TIMEOUT"],
    default: "5s",
    help: "How long a connection to an upstream may take.",
  }),
  headerTimeout: option(time(1), {
    group: "Upstreams",
    flag: "header-timeout",
    default: "15s",
    help: "How long an upstream may take until its answer begins.",
  }),
  idleTimeout: option(time(1), {
    group: "Upstreams",
    flag: "idle-timeout",
    inherited: ["PROXY_READ_TIMEOUT", "PROXY_SEND_TIMEOUT", "PROXY_CONNECT_READ_TIMEOUT", "PROXY_CONNECT_SEND_TIMEOUT"],
    default: "60s",
    help: "How long an upstream may be silent in the middle of a body.",
  }),
  upstreamTransfers: option(COUNT_OR_ZERO, {
    group: "Upstreams",
    flag: "upstream-transfers",
    default: "300",
    help: "Blobs that may come from one registry at once; others wait for their turn. 0 is no bound. Manifests, tags and tokens never wait.",
  }),
  blobConnections: option(COUNT, {
    group: "Upstreams",
    flag: "blob-connections",
    default: "8",
    help: "Connections at most for one large blob, where one is slower than the path: they are tried when a blob takes seconds, and kept when they bring more. 1 is never more than one.",
  }),
} as const;
