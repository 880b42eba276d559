/** An Exchange as the adapter would make it, for tests of what comes behind it. */
import { parseHost } from "../../src/registry/host.ts";
import type { Exchange } from "../../src/proxy/exchange.ts";

export interface ExchangeFacts {
  readonly method?: Exchange["method"];
  readonly path?: string;
  readonly query?: string;
  readonly host?: string | undefined;
  readonly peer?: string;
  readonly secure?: boolean;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

export function exchangeWith(facts: ExchangeFacts): Exchange {
  return {
    id: "0123456789abcdef",
    method: facts.method ?? "GET",
    path: facts.path ?? "/v2/",
    query: facts.query ?? "",
    host: facts.host === undefined ? undefined : parseHost(facts.host),
    headers: new Headers(facts.headers),
    peer: facts.peer ?? "127.0.0.1",
    secure: facts.secure ?? false,
    signal: new AbortController().signal,
    receivedAtMs: performance.now(),
    body: facts.body === undefined ? null : new Blob([facts.body]).stream(),
    notes: {},
  };
}
