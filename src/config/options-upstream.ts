/** The lines of the table of options (`options.ts`) that say how upstreams are asked. */
import { COUNT_OR_ZERO, PROXY, time } from "./kinds.ts";
import { option } from "./option.ts";

export const UPSTREAM_OPTIONS = {
  upstreamProxy: option(PROXY, {
    group: "Upstreams",
    flag: "upstream-proxy",
    inherited: ["http_proxy", "https_proxy", "all_proxy", "no_proxy"],
    help: "Proxy towards registries: http, https, socks5 or socks5h. A registry's own proxy in the map wins; hosts in no_proxy are asked directly.",
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
    help: "Blobs that may come from one registry at once, more wait for their turn; 0 is no bound. Manifests, tags and tokens never wait.",
  }),
} as const;
