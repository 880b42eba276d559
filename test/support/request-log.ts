/** What arrived at a fake server: a bounded list for looking at, exact counters for asserting on, and events to wait for. */
import type { WireRequest } from "./wire-server.ts";

export interface RecordedRequest {
  readonly method: string;
  /** Raw path without the query. */
  readonly path: string;
  readonly query: string;
  readonly headers: Headers;
  /** Lines as they came. */
  readonly lines: WireRequest["lines"];
  /** Milliseconds on the `performance.now()` clock. */
  readonly at: number;
  /** The body as text, for token requests; `""` for bodies over 64 KiB. */
  readonly body: string;
}

export interface RequestFilter {
  method?: string;
  /** Equal to the path, or matching it. */
  path?: string | RegExp;
}

export interface RequestLog {
  readonly list: RecordedRequest[];
  add(request: WireRequest): void;
  /** Exact, also for requests the list has dropped, when filtered by method and path only. */
  count(filter?: RequestFilter): number;
  /** Resolves when so many requests have matched. */
  until(filter: RequestFilter, count: number): Promise<void>;
  clear(): void;
}

/** Enough to look at any test's traffic; storms beyond it are counted, not kept. */
const MAX_LISTED = 10_000;
const MAX_BODY_TEXT = 64 * 1024;

export function createRequestLog(): RequestLog {
  const list: RecordedRequest[] = [];
  const counts = new Map<string, { method: string; path: string; count: number }>();
  const watchers = new Set<() => void>();
  const count = (filter: RequestFilter = {}): number => {
    let total = 0;
    for (const entry of counts.values()) if (isMatch(entry, filter)) total += entry.count;
    return total;
  };
  return {
    list,
    count,
    add(request) {
      const { method, path, query, headers, lines, at } = request;
      const body = request.body.length > MAX_BODY_TEXT ? "" : new TextDecoder().decode(request.body);
      list.push({ method, path, query, headers, lines, at, body });
      if (list.length > MAX_LISTED) list.shift();
      const key = `${method} ${path}`;
      const entry = counts.get(key) ?? { method, path, count: 0 };
      entry.count++;
      counts.set(key, entry);
      for (const watcher of watchers) watcher();
    },
    async until(filter, wanted) {
      while (count(filter) < wanted) {
        await new Promise<void>((resolve) => {
          const watcher = (): void => {
            watchers.delete(watcher);
            resolve();
          };
          watchers.add(watcher);
        });
      }
    },
    clear() {
      list.length = 0;
      counts.clear();
    },
  };
}

function isMatch(entry: { method: string; path: string }, filter: RequestFilter): boolean {
  if (filter.method !== undefined && filter.method !== entry.method) return false;
  if (filter.path === undefined) return true;
  return typeof filter.path === "string" ? filter.path === entry.path : filter.path.test(entry.path);
}
