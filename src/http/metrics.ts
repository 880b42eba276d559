/**
 * Who may see metrics and the details of `/readyz`, and the small application of an address of their own
 * (`--metrics-listen`). On the other addresses they are for programs of this machine alone; a request that came through a
 * reverse proxy on this machine is somebody else's.
 */
import { RegistryError } from "../errors.ts";
import { EXPOSITION_TYPE } from "../metrics.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { isLoopbackPeer } from "../registry/peer.ts";
import { errorReply, jsonReply } from "./reply.ts";

/** How a registry's upstreams did last, for `/readyz`. */
export interface RegistryState {
  /** A word for the last answer: `"ok"`, `"timeout"`, …; `"not asked yet"`. */
  readonly last: string;
  readonly secondsAgo?: number;
  /** Whether each of its upstreams is asked: `"closed"`, `"open"`, `"half-open"`. */
  readonly upstreams: readonly { readonly upstream: string; readonly state: string }[];
  /** Whom it counts, and until when it will not be asked by them. */
  readonly accounts: readonly { readonly account: string; readonly limitedSeconds: number }[];
}

export interface Observed {
  readonly isReady: () => boolean;
  /** The text of all metrics. */
  readonly metrics: () => string;
  /** By key of the map. */
  readonly registries: () => Readonly<Record<string, RegistryState>>;
}

/** What a reverse proxy adds: then the peer is not who asks. */
const FORWARDED = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/** Whether a program on this machine asks for itself. */
export function isFromThisMachine({ peer, headers }: Pick<Exchange, "peer" | "headers">): boolean {
  return isLoopbackPeer(peer) && !FORWARDED.some((name) => headers.has(name));
}

export function metricsReply({ metrics }: Pick<Observed, "metrics">): Reply {
  const body = metrics();
  return {
    status: 200,
    headers: [
      ["Content-Type", EXPOSITION_TYPE],
      ["Content-Length", String(Buffer.byteLength(body))],
      ["Cache-Control", "no-store"],
    ],
    body,
  };
}

/** 200 when serving, 503 while starting or draining; how the registries do only where it is `detailed`. */
export function readyReply(observed: Omit<Observed, "metrics">, extent: "short" | "detailed"): Reply {
  const isServing = observed.isReady();
  const upstreams = observed.registries();
  return jsonReply(isServing ? 200 : 503, {
    status: isServing ? "ready" : "not ready",
    registries: Object.keys(upstreams).length,
    ...(extent === "detailed" && { upstreams }),
  });
}

/** Everything that an address for metrics answers. Never rejects. */
export function createMetricsHandler(observed: Observed): (exchange: Exchange) => Promise<Reply> {
  return async function answer({ method, path }) {
    if (method !== "GET" && method !== "HEAD") return errorReply(new RegistryError("UNSUPPORTED", "use GET"));
    switch (path) {
      case "/metrics":
        return metricsReply(observed);
      case "/readyz":
        return readyReply(observed, "detailed");
      case "/healthz":
      case "/health":
        return jsonReply(200, { status: "ok" });
      default:
        return errorReply(new RegistryError("UNSUPPORTED", "there is nothing here but /metrics", { status: 404 }));
    }
  };
}
