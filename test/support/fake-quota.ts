/**
 * Pulls as Docker Hub counts them (protocol R206–R208): each account has a limit, a GET of a manifest is a pull, HEAD tells what is
 * left and costs nothing, and who has none left is told 429.
 */
import type { HeaderLine } from "../../src/errors.ts";
import { errorBody, type Plan, utf8 } from "./fake-delivery.ts";

export interface FakeQuota {
  /** Pulls of each account, by user; `""` is nobody. Who is not in here is unlimited and told nothing. */
  readonly limits: Map<string, number>;
  /** Pulls that were given to each. */
  readonly used: Map<string, number>;
  /** Value of Retry-After on 429; undefined sends none, as Docker Hub does for pulls. */
  retryAfter: string | undefined;
  /** Sees a request for a manifest before it is answered: the answer's lines, or the refusal. */
  ask(user: string | undefined, method: string): { readonly lines: HeaderLine[]; readonly refusal: Plan | undefined };
  clear(): void;
}

export function createFakeQuota(): FakeQuota {
  const quota: FakeQuota = {
    limits: new Map(),
    used: new Map(),
    retryAfter: undefined,
    ask(user = "", method) {
      const limit = quota.limits.get(user);
      if (limit === undefined) return { lines: [], refusal: undefined };
      const before = quota.used.get(user) ?? 0;
      const isRefused = method === "GET" && before >= limit;
      const used = method === "GET" && !isRefused ? before + 1 : before;
      quota.used.set(user, used);
      const lines: HeaderLine[] = [
        ["ratelimit-limit", `${limit};w=21600`],
        ["ratelimit-remaining", `${Math.max(0, limit - used)};w=21600`],
        ["docker-ratelimit-source", user === "" ? "192.0.2.1" : `id-of-${user}`],
      ];
      return { lines, refusal: isRefused ? refusal(lines) : undefined };
    },
    clear() {
      quota.limits.clear();
      quota.used.clear();
      quota.retryAfter = undefined;
    },
  };

  function refusal(lines: HeaderLine[]): Plan {
    const retry: HeaderLine[] = quota.retryAfter === undefined ? [] : [["Retry-After", quota.retryAfter]];
    const message = "You have reached your pull rate limit.";
    return {
      status: 429,
      lines: [["Content-Type", "application/json"], ...lines, ...retry],
      body: utf8(errorBody("TOOMANYREQUESTS", message)),
    };
  }

  return quota;
}
