/** What is counted about upstreams: a few words for how a request ended, and who is told. Nothing of a client is in it. */
import { UpstreamError, type UpstreamErrorKind } from "../errors.ts";

/** How one request to one upstream ended: by its final status, or why there was none. */
export type UpstreamOutcome =
  "ok" | "refused" | "not-found" | "limited" | "client-error" | "server-error" | "aborted" | UpstreamErrorKind;

/**
 * What was wrong with content: the `digest` differs, it is a `page` of HTML, a `type` that is no manifest's, or another
 * `part` than was asked for.
 */
export type ContentFault = "digest" | "page" | "type" | "part";

/** Told of what happens, at once; must not throw. `registry` is a key of the map. */
export interface UpstreamMeter {
  /** One upstream answered, or did not: token, redirects and all. */
  answered(registry: string, outcome: UpstreamOutcome, elapsedMs: number): void;
  /** A request was refused at once, since all upstreams of the registry are known dead. */
  notAsked(registry: string): void;
  /** One request to a token server. */
  tokenAnswered(registry: string, outcome: UpstreamOutcome): void;
  /** Body bytes came in. */
  received(registry: string, bytes: number): void;
  /** Content was not what it should be, and is neither kept nor passed on whole. */
  refused(registry: string, fault: ContentFault): void;
}

export const NO_METER: UpstreamMeter = {
  answered: () => undefined,
  notAsked: () => undefined,
  tokenAnswered: () => undefined,
  received: () => undefined,
  refused: () => undefined,
};

/** The answer of `asking`, whose end is told in one word. */
export async function metered<T extends { readonly status: number }>(
  asking: Promise<T>,
  tell: (outcome: UpstreamOutcome) => void,
): Promise<T> {
  try {
    const answer = await asking;
    tell(outcomeOfStatus(answer.status));
    return answer;
  } catch (error) {
    tell(error instanceof UpstreamError ? error.kind : "aborted");
    throw error;
  }
}

export function outcomeOfStatus(status: number): UpstreamOutcome {
  if (status < 400) return "ok";
  if (status === 401 || status === 403) return "refused";
  if (status === 404) return "not-found";
  if (status === 429) return "limited";
  return status < 500 ? "client-error" : "server-error";
}
