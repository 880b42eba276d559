/**
 * `/v2/`: answered at once and without any upstream. dockerd waits for it, and podman reads challenges nowhere else
 * (protocol R3, R117, R152), so it is 401 wherever a login is taken.
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import { formatBearerChallenge } from "../registry/challenge.ts";
import type { Registry } from "../registry/registry.ts";
import type { Reachable } from "../registry/route.ts";
import type { Client, Clients } from "../proxy/client.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import { API_VERSION, NEVER_KEPT } from "../proxy/headers.ts";
import type { Origin } from "../proxy/origin.ts";
import { jsonReply } from "./reply.ts";

export interface Ping {
  readonly exchange: Exchange;
  readonly origin: Origin;
  readonly reachable: Reachable;
  /** As `enter` found it: undefined where credentials are the registries'. */
  readonly client: Client | undefined;
}

/** @throws RegistryError UNAUTHORIZED with the challenge that leads to the token service */
export function answerPing({ exchange, origin, reachable, client }: Ping, clients: Clients): Reply {
  const welcome = jsonReply(200, {}, { headers: [NEVER_KEPT, API_VERSION] });
  const authorization = exchange.headers.get("authorization");
  // Where there are users, who shows no credentials is challenged even if he may read: told 200, he would never log in.
  const isExpected =
    client === undefined
      ? !reachable.registries.some((registry) => registry.login === "relay") ||
        clients.holdsToken(authorization) ||
        /^basic /i.test(authorization ?? "")
      : client.kind !== "none";
  if (isExpected) return welcome;
  throw new RegistryError("UNAUTHORIZED", "log in, or ask for an anonymous token", {
    headers: [hostChallenge(origin, reachable.only, authorization === null ? undefined : "invalid_token")],
  });
}

/** The challenge of a host: with no registry's name in the realm, the token request says which one is meant. */
export function hostChallenge(
  origin: Origin,
  only: Registry | undefined,
  error: "invalid_token" | "insufficient_scope" | undefined,
): HeaderLine {
  return [
    "WWW-Authenticate",
    formatBearerChallenge({
      realm: `${origin.base}/token${only === undefined ? "" : `/${only.key}`}`,
      service: origin.host?.text ?? "layover",
      ...(error === undefined ? {} : { error }),
    }),
  ];
}
