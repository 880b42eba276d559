/**
 * How many pulls an account has left at a registry, and until when it may not ask (protocol R206–R212). Learnt from answers alone:
 *
 *     asked ── 429 ──▶ limited: not asked until Retry-After is over ──▶ one request finds out, the others wait for it
 *       ▲                  ▲                                                 │
 *       └── any other ─────┼─────────────────────────────────────────────────┤
 *                          └───────────────────────── 429 ───────────────────┘
 *
 * The manifests of an upstream and the tokens of a token server are limited each by itself; blobs never are. What is
 * refused here was not asked upstream.
 */
import { LRUCache } from "lru-cache";
import { UpstreamError } from "../errors.ts";
import type { Registry, Upstream } from "../registry/registry.ts";
import { type Account, accountOf, type Asking } from "./account.ts";
import { discardBody } from "./body.ts";
import type { HttpResponse } from "./http.ts";
import type { OutgoingProxies } from "./proxy.ts";
import { retryAfterMs, type ToldQuota, toldQuota } from "./quota-headers.ts";
import type { Credential, Identity, UpstreamRequest } from "./request.ts";
import { type Limits, waitFor } from "./wait.ts";

export interface Quota {
  /**
   * The answer of `ask`, unless the account is limited.
   * @throws UpstreamError with status 429 and the seconds left: `limited` for manifests, `token` for tokens
   */
  through(asking: Asking, limits: Limits, ask: () => Promise<HttpResponse>): Promise<HttpResponse>;
  /** The same for a request to an upstream; only manifests are counted by registries. */
  ofUpstream(upstream: Upstream, request: UpstreamRequest, ask: () => Promise<HttpResponse>): Promise<HttpResponse>;
  /** In whose names to ask for what everybody may read, one after the other: most pulls left first, the limited last. */
  inTurn(registry: Registry, credentials: readonly Credential[]): readonly Identity[];
  /** Whether the accounts that the registry is asked with have less than a tenth of their pulls left. */
  isShort(registry: Registry): boolean;
  /** Every account for manifests that is no client's own. */
  readings(): readonly QuotaReading[];
}

export interface QuotaReading {
  /** Key of the registry. */
  readonly registry: string;
  /** Host of the upstream. */
  readonly upstream: string;
  /** `"anonymous"`, or a configured user's name. */
  readonly account: string;
  /** Pulls in a window, and those left; undefined where the registry tells none. */
  readonly limit: number | undefined;
  readonly remaining: number | undefined;
  /** Until it may be asked again; 0 when it may. */
  readonly limitedSeconds: number;
}

/** What an operator is told when an account is limited, and when that is over. No secrets. */
export interface QuotaNotice {
  readonly registry: string;
  readonly host: string;
  readonly message: string;
  readonly limit?: number;
  readonly remaining?: number;
  /** Whom the registry counts. */
  readonly source?: string;
  readonly retryAfter?: string;
}

export interface QuotaDependencies {
  /** Wall clock, milliseconds: registries name moments. */
  readonly now: () => number;
  readonly notice: (event: QuotaNotice) => void;
}

/** Below this share of the limit tags are asked for less often. */
const SHORT_SHARE = 0.1;
/** A registry that does not say how long: first a minute, then twice as long each time. */
const FIRST_SPAN_MS = 60_000;
const MAX_GUESSED_SPAN_MS = 15 * 60_000;
/** "At once" would be a storm. */
const MIN_SPAN_MS = 1_000;
/** The longest window that a registry counts pulls in; who says more is asked after it. */
const MAX_SPAN_MS = 6 * 60 * 60_000;
/** Pulls are compared in steps of so many, so that a pull's requests stay with one account and its token. */
const STEP_PULLS = 10;
/** Logins of clients; an entry is some 300 bytes, and one that falls out costs a request that is refused. */
const MAX_ACCOUNTS = 10_000;
/** Of one registry, no client's own: upstreams times configured credentials, and those that programs renewed. */
const MAX_SHARED = 100;

interface Entry {
  readonly account: Account;
  told: (ToldQuota & { readonly atMs: number }) | undefined;
  limit: Limit | undefined;
  /** It gets no tokens until then, so that others are asked in its place. */
  noTokensUntilMs: number;
}

interface Limit {
  untilMs: number;
  /** How many spans it was limited for, one after the other. */
  readonly spans: number;
  /** The request that finds out whether it is over; ends when it is known. */
  probe: Promise<void> | undefined;
}

export function createQuota(proxies: OutgoingProxies, { now, notice }: QuotaDependencies): Quota {
  const entries = new LRUCache<string, Entry>({ max: MAX_ACCOUNTS });
  // By registry: one for each that ever was in the map.
  const shared = new Map<string, LRUCache<string, Entry>>();

  function entryOf(asking: Asking): Entry {
    const account = accountOf(asking, proxies);
    const known = entries.get(account.key);
    if (known !== undefined) return known;
    const entry: Entry = { account, told: undefined, limit: undefined, noTokensUntilMs: 0 };
    entries.set(account.key, entry);
    if (account.name === undefined || account.subject === "tokens") return entry;
    const others = shared.get(account.registry) ?? new LRUCache<string, Entry>({ max: MAX_SHARED });
    shared.set(account.registry, others.set(account.key, entry));
    return entry;
  }

  /** A clock that was set back must not prolong a limit beyond all reason. */
  function leftMs({ limit }: Entry): number {
    const left = (limit?.untilMs ?? 0) - now();
    return left > MAX_SPAN_MS ? 0 : Math.max(0, left);
  }

  async function through(asking: Asking, limits: Limits, ask: () => Promise<HttpResponse>): Promise<HttpResponse> {
    const entry = entryOf(asking);
    for (;;) {
      const { limit } = entry;
      if (limit === undefined) return settle(entry, undefined, await asked(entry, ask));
      if (leftMs(entry) > 0) throw refusal(entry, leftMs(entry));
      if (limit.probe === undefined) return probe(entry, limit, ask);
      await waitFor(limit.probe, { ...limits, what: nameOf(entry) });
    }
  }

  async function probe(entry: Entry, limit: Limit, ask: () => Promise<HttpResponse>): Promise<HttpResponse> {
    const { promise, resolve } = Promise.withResolvers<void>();
    limit.probe = promise;
    try {
      return await settle(entry, limit, await asked(entry, ask));
    } finally {
      limit.probe = undefined; // without an answer the next request finds out
      resolve();
    }
  }

  async function asked(entry: Entry, ask: () => Promise<HttpResponse>): Promise<HttpResponse> {
    try {
      return await ask();
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === "token" && error.status === 429)
        entry.noTokensUntilMs = now() + (retryAfterMs(error.retryAfter, now()) ?? FIRST_SPAN_MS);
      throw error;
    }
  }

  /** @param probed the limit whose end the request was to find; others were asked before it began */
  async function settle(entry: Entry, probed: Limit | undefined, answer: HttpResponse): Promise<HttpResponse> {
    const told = toldQuota(answer.headers);
    if (told !== undefined || answer.status < 400) entry.told = told && { ...told, atMs: now() };
    if (answer.status === 429) {
      await discardBody(answer.body);
      limitFor(entry, probed, answer.headers.get("retry-after"));
      throw refusal(entry, leftMs(entry));
    }
    if (probed === undefined || entry.limit !== probed) return answer;
    // Looking is free at Docker Hub, also when no pull is left (protocol R208): that is no end, and no news either.
    if (told?.remaining === 0) entry.limit = limitOf(probed.spans + 1, undefined);
    else end(entry);
    return answer;
  }

  function limitFor(entry: Entry, probed: Limit | undefined, retryAfter: string | null): void {
    const { limit } = entry;
    const isNews = limit === undefined || limit === probed;
    const told = limitOf((limit?.spans ?? 0) + (isNews ? 1 : 0), retryAfterMs(retryAfter, now()));
    // What was asked before the limit was known may still say it better.
    if (!isNews) limit.untilMs = Math.max(told.untilMs, limit.untilMs);
    if (!isNews) return;
    entry.limit = told;
    tell(entry, `limits ${nameOf(entry)}: asked again at ${new Date(told.untilMs).toISOString()}`, retryAfter);
  }

  /** @param toldMs what the registry asks for; undefined when it says nothing */
  function limitOf(spans: number, toldMs: number | undefined): Limit {
    const guessMs = Math.min(FIRST_SPAN_MS * 2 ** (spans - 1), MAX_GUESSED_SPAN_MS);
    const spanMs = Math.min(Math.max(toldMs ?? guessMs, MIN_SPAN_MS), MAX_SPAN_MS);
    return { untilMs: now() + spanMs, spans, probe: undefined };
  }

  function end(entry: Entry): void {
    entry.limit = undefined;
    tell(entry, `no longer limits ${nameOf(entry)}`, null);
  }

  function tell({ account, told }: Entry, what: string, retryAfter: string | null): void {
    const { host } = new URL(account.origin);
    const { limit, remaining, source } = told ?? {};
    notice({
      registry: account.registry,
      host,
      message: `${host} ${what}`,
      ...(limit !== undefined && { limit }),
      ...(remaining !== undefined && { remaining }),
      ...(source !== undefined && { source }),
      ...(retryAfter !== null && { retryAfter: retryAfter.slice(0, MAX_SHOWN_CHARACTERS) }),
    });
  }

  /** What it has left as far as it is known; Infinity for what is unlimited, never told, or told so long ago that it is over. */
  function remainingOf({ told }: Entry): number {
    return told === undefined || now() - told.atMs > told.windowMs ? Infinity : told.remaining;
  }

  function isShortEntry(entry: Entry): boolean {
    return remainingOf(entry) < (entry.told?.limit ?? 0) * SHORT_SHARE;
  }

  function inTurn(registry: Registry, credentials: readonly Credential[]): readonly Identity[] {
    const credentialed = credentials.map((credential) => ({
      identity: { kind: "credential", credential } as const,
      entry: entryOf({ registry, origin: credential.origin, credential, subject: "manifests" }),
    }));
    const nobody = {
      identity: { kind: "anonymous" } as const,
      entry: entryOf({ registry, origin: registry.upstreams[0].origin, credential: undefined, subject: "manifests" }),
    };
    const untilMs = (entry: Entry) => Math.max(leftMs(entry), entry.noTokensUntilMs - now(), 0);
    const steps = (entry: Entry) => Math.ceil(remainingOf(entry) / STEP_PULLS);
    const free = credentialed.filter(({ entry }) => untilMs(entry) === 0);
    const byRest = free.toSorted((a, b) => compare(steps(b.entry), steps(a.entry)));
    const limited = [...credentialed.filter((each) => !free.includes(each)), nobody];
    const bySpan = limited.toSorted((a, b) => compare(untilMs(a.entry), untilMs(b.entry)));
    return [...byRest, ...bySpan].map(({ identity }) => identity);
  }

  return {
    through,
    ofUpstream({ origin }, request, ask) {
      const { registry, identity, path } = request;
      if (!path.startsWith("manifests/")) return ask();
      const isOwn = identity.kind === "credential" && identity.credential.origin === origin;
      const credential = isOwn ? identity.credential : undefined;
      return through({ registry, origin, credential, subject: "manifests" }, request, ask);
    },
    inTurn,
    isShort({ key, upstreams: [{ origin }] }) {
      const used = [...(shared.get(key)?.values() ?? [])].filter(({ account }) => account.origin === origin);
      // Nobody's pulls are the last resort where there are accounts.
      const named = used.filter(({ account }) => !account.isNobody);
      const counted = named.length > 0 ? named : used;
      return counted.length > 0 && counted.every(isShortEntry);
    },
    readings: () => [...shared.values()].flatMap((accounts) => [...accounts.values()].toReversed().flatMap(readingOf)),
  };

  function readingOf(entry: Entry): QuotaReading[] {
    const { account, told } = entry;
    if (account.name === undefined) return [];
    const isKnown = remainingOf(entry) !== Infinity;
    return [
      {
        registry: account.registry,
        upstream: new URL(account.origin).host,
        account: account.name,
        limit: isKnown ? told?.limit : undefined,
        remaining: isKnown ? told?.remaining : undefined,
        limitedSeconds: Math.ceil(leftMs(entry) / 1000),
      },
    ];
  }
}

/** A header may be of any length. */
const MAX_SHOWN_CHARACTERS = 64;

/** `"pulls of account alice"`. */
function nameOf({ account }: Entry): string {
  const what = account.subject === "manifests" ? "pulls" : "tokens";
  return account.name === undefined ? `${what} of a client's account` : `${what} of account ${account.name}`;
}

function refusal(entry: Entry, leftMs: number): UpstreamError {
  const { host } = new URL(entry.account.origin);
  const kind = entry.account.subject === "manifests" ? "limited" : "token";
  const retryAfter = String(Math.max(1, Math.ceil(leftMs / 1000)));
  return new UpstreamError(kind, `${host} limits ${nameOf(entry)}`, { status: 429, retryAfter });
}

/** Also of two infinities. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}
