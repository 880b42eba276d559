/**
 * How much one client may ask for: requests over time, and answers with content under way at once. Both are off unless
 * set. A client is a user of ours, else an address; addresses of one IPv6 network of 64 bits are one client, since a single
 * machine has all of them.
 */
import { LRUCache } from "lru-cache";
import { RegistryError } from "../errors.ts";
import type { RequestRate } from "../registry/request-rate.ts";
import type { RegistryRequest } from "./access.ts";
import type { Exchange } from "./exchange.ts";

export interface ClientLimitsOptions {
  /** So many requests may come at once, and are given back evenly over the period; undefined: no limit. */
  readonly requests: RequestRate | undefined;
  /** Manifests and blobs, in either direction, that are under way at once; undefined: no limit. */
  readonly transfers: number | undefined;
}

export interface ClientLimits {
  /** Counts a request. @throws RegistryError TOOMANYREQUESTS with Retry-After */
  enter(request: Pick<RegistryRequest, "exchange" | "client" | "origin" | "endpoint">): void;
  /** The exchange ended, whole or not; does nothing for one that was not counted. */
  leave(exchange: Exchange): void;
}

/** Clients whose requests are remembered; one that falls out begins with a full bucket. An entry is some 100 bytes. */
const MAX_CLIENTS = 100_000;
/** A layer takes seconds; what waits for its turn asks again soon. */
const TRANSFER_RETRY_SECONDS = 1;

/** @param now milliseconds on a clock that never goes back */
export function createClientLimits({ requests, transfers }: ClientLimitsOptions, now: () => number): ClientLimits {
  // The moment when a client's bucket is full again (the generic cell rate algorithm): one number says all.
  const fullAt = new LRUCache<string, number>({ max: MAX_CLIENTS });
  // Bounded by the connections.
  const underWay = new Map<string, number>();
  const counted = new WeakMap<Exchange, string>();

  function takeRequest(key: string, { count, periodMs }: RequestRate): void {
    const eachMs = periodMs / count;
    const at = now();
    const full = Math.max(fullAt.get(key) ?? 0, at) + eachMs;
    const waitMs = full - at - periodMs;
    if (waitMs > 0) throw tooMany("too many requests from here: slow down", Math.ceil(waitMs / 1000));
    fullAt.set(key, full);
  }

  function takeTransfer(exchange: Exchange, key: string, most: number): void {
    const running = underWay.get(key) ?? 0;
    if (running >= most) throw tooMany("too many transfers from here at once", TRANSFER_RETRY_SECONDS);
    underWay.set(key, running + 1);
    counted.set(exchange, key);
  }

  return {
    enter(request) {
      if (requests === undefined && transfers === undefined) return;
      const key = clientKey(request);
      if (requests !== undefined) takeRequest(key, requests);
      if (transfers !== undefined && isTransfer(request)) takeTransfer(request.exchange, key, transfers);
    },
    leave(exchange) {
      const key = counted.get(exchange);
      if (key === undefined) return;
      counted.delete(exchange);
      const left = (underWay.get(key) ?? 1) - 1;
      if (left > 0) underWay.set(key, left);
      else underWay.delete(key);
    },
  };
}

function tooMany(message: string, retryAfterSeconds: number): RegistryError {
  return new RegistryError("TOOMANYREQUESTS", message, { headers: [["Retry-After", String(retryAfterSeconds)]] });
}

function isTransfer({ exchange, endpoint }: Pick<RegistryRequest, "exchange" | "endpoint">): boolean {
  return exchange.method !== "HEAD" && ["manifest", "blob", "upload"].includes(endpoint.kind);
}

/** `"user alice"`, `"192.0.2.7"`, `"2001:db8:1:2"`. */
function clientKey({ client, origin }: Pick<RegistryRequest, "client" | "origin">): string {
  if (client.kind === "user") return `user ${client.name}`;
  return networkOf(origin.client);
}

/** The first 64 bits of an IPv6 address, anything else as it is. */
export function networkOf(address: string): string {
  if (!address.includes(":") || address.startsWith("::ffff:")) return address;
  const [head = "", tail] = address.split("::");
  const before = head === "" ? [] : head.split(":");
  const behind = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - behind.length);
  const groups = [...before, ...Array.from({ length: zeros }, () => "0"), ...behind];
  return groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":");
}
