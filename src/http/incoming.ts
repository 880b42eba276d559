/** What comes in, from node's request to our Exchange: checked once, never parsed again (docs/request-handling.md, step 0). */
import type { IncomingMessage, ServerResponse } from "node:http";
import { RegistryError } from "../errors.ts";
import type { Exchange } from "../proxy/exchange.ts";
import { checkRawRequest } from "../registry/raw-request.ts";
import type { CheckedRequest } from "../registry/raw-request.ts";
import { isGone } from "./body-writer.ts";
import type { ConnectionFacts } from "./connections.ts";

/** What the client waits for before it sends the body. */
export type Expectation = "none" | "100-continue";
type Passed = Extract<CheckedRequest, { kind: "ok" }>;

/** A request that passed the checks. */
export interface Incoming {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly expects: Expectation;
  readonly checked: Passed;
}

/** The paths a port that speaks https answers to plain HTTP from elsewhere. */
const HEALTH_PATHS: ReadonlySet<string> = new Set(["/healthz", "/health"]);
const HTTPS_ONLY = new RegistryError("UNSUPPORTED", "this port speaks https; use https://", { status: 400 });

const METHODS_WITH_BODY: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);

/** The raw checks, and what the connection allows. */
export function checkIncoming(facts: ConnectionFacts, request: IncomingMessage): CheckedRequest {
  const { method = "", url = "", httpVersion, rawHeaders } = request;
  const checked = checkRawRequest({ method, url, httpVersion, rawHeaders });
  if (checked.kind === "ok" && facts.httpsOnly === true && !HEALTH_PATHS.has(checked.path)) {
    return { kind: "refused", error: HTTPS_ONLY };
  }
  return checked;
}

/** Makes the Exchange; its signal aborts when the client leaves before `response` is complete. */
export function exchangeOf(
  { secure, peer, certificateUser }: ConnectionFacts,
  { request, response, checked }: Incoming,
  body: ReadableStream<Uint8Array> | null,
  id: string,
): Exchange {
  let signal: AbortSignal | undefined;
  const { method, path, query, host } = checked;
  return {
    id,
    method,
    path,
    query,
    host,
    headers: joinLines(request.rawHeaders),
    peer,
    secure,
    certificateUser,
    // Made when somebody asks for it: what is served from memory never does.
    get signal() {
      signal ??= signalOf(response);
      return signal;
    },
    receivedAtMs: performance.now(),
    body: METHODS_WITH_BODY.has(method) ? body : null,
    notes: {},
  };
}

/** Aborts when the client leaves before the answer is complete; at once when it has left already. */
function signalOf(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  const abort = (): void => {
    if (!response.writableFinished) controller.abort(new DOMException("the client left", "AbortError"));
  };
  if (isGone(response)) abort();
  else response.once("close", abort);
  return controller.signal;
}

function joinLines(rawHeaders: readonly string[]): Headers {
  const headers = new Headers();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) headers.append(rawHeaders[i] ?? "", rawHeaders[i + 1] ?? "");
  return headers;
}
