/**
 * One line per request, written when its body ended or broke (compat C24). The path is logged without its query, which
 * may hold cursors and signatures; headers only at debug level, and then without those that carry secrets.
 */
import { reasonOf } from "../errors.ts";
import { type Log, withoutRedaction } from "../log.ts";
import type { Exchange } from "../proxy/exchange.ts";
import type { OriginReader } from "../proxy/origin.ts";

export interface Outcome {
  readonly status: number;
  readonly bytesSent: number;
  readonly durationMs: number;
  /** False when the connection broke before the answer was complete. */
  readonly complete: boolean;
  /** Why not: a word. */
  readonly broken?: string | undefined;
  /** What the body failed with. */
  readonly cause?: unknown;
}

export interface AccessLog {
  finished(exchange: Exchange, outcome: Outcome): void;
  /** A request so malformed that it never became an Exchange. */
  refused(facts: { peer: string; status: number; reason: string }): void;
}

/** A client may send a user agent of any length; a reason names a host, a repository and a digest at most. */
const MAX_FIELD_CHARACTERS = 256;
/** The health checks of orchestrators would fill the log, and so would scrapes; who was shown no metrics is of interest. */
const QUIET_PATHS: ReadonlySet<string> = new Set(["/healthz", "/health", "/readyz"]);

export function createAccessLog(log: Log, originOf: OriginReader): AccessLog {
  const lines = withoutRedaction(log);
  return {
    finished(exchange, outcome) {
      const { notes } = exchange;
      const reason = notes.reason ?? (outcome.cause === undefined ? undefined : reasonOf(outcome.cause));
      const line = {
        id: exchange.id,
        client: originOf(exchange).client,
        method: exchange.method,
        host: exchange.host?.text,
        uri: cut(shown(exchange.path)),
        status: outcome.status,
        bytes: outcome.bytesSent,
        ms: Math.round(outcome.durationMs),
        ...(outcome.complete ? {} : { complete: false, broken: outcome.broken }),
        ...notes,
        ...(reason !== undefined && { reason: cut(reason) }),
        agent: cut(exchange.headers.get("user-agent") ?? ""),
      };
      if (QUIET_PATHS.has(exchange.path) || (exchange.path === "/metrics" && outcome.status === 200))
        lines.debug(line, "request");
      else lines.info(line, "request");
      if (log.isLevelEnabled("debug")) log.debug({ id: exchange.id, head: headOf(exchange) }, "request head");
    },
    refused(facts) {
      log.info(facts, "malformed request refused");
    },
  };
}

/** Everything but what may hold a secret; those are named, so that one sees they were there. */
function headOf(exchange: Exchange): Record<string, string> {
  const head: Record<string, string> = {};
  for (const [name, value] of exchange.headers) {
    const isSecret = /authorization|cookie|token|secret|key/i.test(name);
    head[cut(name)] = isSecret ? "[redacted]" : cut(value);
  }
  return head;
}

/** The path without what opens something: the name of an upload's session leads to it, at another host without a login too. */
function shown(path: string): string {
  if (path.startsWith("/token/")) return withoutUserinfo(path);
  return path.replace(/(\/blobs\/uploads\/).+/, "$1…");
}

/** `/token/https://user:password@host/` is what a client may write: the name stays, the secret does not. */
function withoutUserinfo(path: string): string {
  return path.replace(/\/\/.*@/, "//");
}

function cut(text: string): string {
  return text.length <= MAX_FIELD_CHARACTERS ? text : `${text.slice(0, MAX_FIELD_CHARACTERS)}…`;
}
