/**
 * Several accounts for one request, one after the other: where a registry limits one, or refuses its credential, the next is
 * asked. Only for what everybody may read: what somebody's own credential may see, no other account is asked for.
 */
import { UpstreamError } from "../errors.ts";
import { discardBody } from "./body.ts";
import type { HttpResponse } from "./http.ts";
import type { Identity, UpstreamRequest } from "./request.ts";

interface Answer {
  readonly response: HttpResponse;
}

/**
 * The first answer that is no account's trouble; where each had some, the last answer, or the limit that ends first.
 * @throws UpstreamError as `ask`
 */
export async function askAsEach<T extends Answer>(
  request: UpstreamRequest,
  ask: (request: UpstreamRequest) => Promise<T>,
): Promise<T & { readonly identity: Identity }> {
  const identities = [request.identity, ...(request.instead ?? [])];
  const limits: UpstreamError[] = [];
  for (const [index, identity] of identities.entries()) {
    const isLast = index === identities.length - 1;
    try {
      const answer = await ask({ ...request, identity });
      if (isLast || !isRefusal(answer, identity)) return { ...answer, identity };
      await discardBody(answer.response.body);
    } catch (error) {
      if (!isLimit(error)) throw error;
      limits.push(error);
    }
  }
  throw limits.toSorted((a, b) => Number(a.retryAfter) - Number(b.retryAfter))[0] ?? noAnswer();
}

/** Everybody may read it, so it is the credential that is not accepted (any more). */
function isRefusal({ response: { status } }: Answer, identity: Identity): boolean {
  return identity.kind === "credential" && (status === 401 || status === 403);
}

function isLimit(error: unknown): error is UpstreamError {
  return error instanceof UpstreamError && error.status === 429 && (error.kind === "limited" || error.kind === "token");
}

function noAnswer(): UpstreamError {
  return new UpstreamError("connect", "no account to ask with");
}
