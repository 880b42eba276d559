/**
 * Who may come in at all, by address and connection, before anything is known of a registry: the first question of
 * every request when client access is configured (`--htpasswd`, `--allow-from`, `--tls-client-ca`, `--access-rules`).
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import { formatBasicChallenge } from "../registry/challenge.ts";
import type { Clients } from "./client.ts";
import type { Exchange } from "./exchange.ts";
import type { Origin, OriginReader } from "./origin.ts";
import { createPeerRanges } from "./peer-ranges.ts";
import type { User, Users } from "./users.ts";

export type Admission =
  /** As if there were no client access: reads what everybody may read. */
  | { readonly kind: "open" }
  /** Proven by a certificate; what else the request carries does not matter. */
  | { readonly kind: "user"; readonly user: User }
  /** Only as a user, or as far as the rules let others. `password` says whether there is a way to log in. */
  | { readonly kind: "login"; readonly by: "password" | "none" }
  | { readonly kind: "refused" };

export interface AdmissionOptions {
  /** CIDRs, and `unix`. */
  readonly allowFrom: readonly string[];
}

export interface AdmissionDependencies {
  readonly users: Users;
  readonly originOf: OriginReader;
}

export interface Gate {
  admit(exchange: Exchange, origin: Origin): Admission;
  /** Why a page beside the registry API is not shown; undefined for who may see it. */
  refusalOfPage(exchange: Exchange, clients: Clients): Promise<RegistryError | undefined>;
}

export function createGate(options: AdmissionOptions, { users, originOf }: AdmissionDependencies): Gate {
  const isAllowed = createPeerRanges(options.allowFrom);

  function admit(exchange: Exchange, origin: Origin): Admission {
    // A proxy in front ends TLS: its certificate is its own and speaks for none of its clients.
    const certificate = origin.client === exchange.peer ? exchange.certificateUser?.() : undefined;
    if (certificate !== undefined) return { kind: "user", user: users.certified(certificate) };
    if (isAllowed(origin.client)) return { kind: "open" };
    if (users.havePasswords) return { kind: "login", by: "password" };
    if (users.anonymousMayAnything()) return { kind: "login", by: "none" };
    return { kind: "refused" };
  }

  return {
    admit,
    async refusalOfPage(exchange, clients) {
      const origin = originOf(exchange);
      const admission = admit(exchange, origin);
      if (admission.kind === "open" || admission.kind === "user") return undefined;
      if (admission.kind === "refused" || admission.by === "none") return refused();
      try {
        const client = await clients.identifyUser(exchange.headers.get("authorization"), origin.client);
        return client.kind === "user" ? undefined : needsLogin("log in to see this page");
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        return error.code === "UNAUTHORIZED" ? needsLogin(error.message) : error;
      }
    },
  };
}

/** For browsers and curl. */
export const BASIC_CHALLENGE: HeaderLine = ["WWW-Authenticate", formatBasicChallenge("Layover")];

function needsLogin(message: string): RegistryError {
  return new RegistryError("UNAUTHORIZED", message, { headers: [BASIC_CHALLENGE] });
}

/** Who cannot log in gets no challenge: clients would ask for a password that nothing can make right. */
export function refused(): RegistryError {
  return new RegistryError("DENIED", "you may not use this registry from here");
}
