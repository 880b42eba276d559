/**
 * The two questions of client access under /v2/: may this client come in, asked before the map is looked at, and what may
 * it do in this repository, asked before anything is served or asked of a registry. A client that must log in first
 * learns nothing of the map: whatever it asks for, the answer is the challenge.
 */
import { type HeaderLine, RegistryError } from "../errors.ts";
import { type Admission, refused } from "../proxy/admission.ts";
import type { Client, Clients } from "../proxy/client.ts";
import type { RegistryRequest } from "../proxy/access.ts";
import type { Exchange, Reply } from "../proxy/exchange.ts";
import type { LoginLimit } from "../proxy/login-limit.ts";
import type { Origin } from "../proxy/origin.ts";
import type { RepositoryOf, Right, Users } from "../proxy/users.ts";

/** What is known of a client before it is known what it asks for. */
export interface Visitor {
  readonly admission: Admission;
  /** Undefined where the registry decides whose credentials these are. */
  readonly client: Client | undefined;
}

export interface Visit {
  readonly exchange: Exchange;
  readonly origin: Origin;
  readonly admission: Admission;
  /** The challenge for what is asked for, or for the host where that is nothing. */
  readonly challenge: (error?: "invalid_token" | "insufficient_scope") => HeaderLine;
}

/**
 * Lets a client in.
 * @throws RegistryError UNAUTHORIZED, DENIED or TOOMANYREQUESTS for who may do nothing here
 */
export async function enter(visit: Visit, clients: Clients, users: Users | undefined): Promise<Visitor> {
  const { exchange, origin, admission, challenge } = visit;
  if (admission.kind === "refused") throw refused();
  if (admission.kind === "user") return { admission, client: { kind: "user", ...admission.user } };
  if (users?.havePasswords !== true) return { admission, client: undefined };
  const client = await withChallenge(
    () => clients.identifyUser(exchange.headers.get("authorization"), origin.client),
    challenge,
  );
  if (client.kind !== "user" && admission.kind === "login" && !users.anonymousMayAnything()) {
    throw strangers(client, challenge);
  }
  return { admission, client };
}

/** Adds the challenge to the answer for credentials that do not hold (protocol R124). */
export async function withChallenge(identify: () => Promise<Client>, challenge: Visit["challenge"]): Promise<Client> {
  try {
    return await identify();
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== "UNAUTHORIZED") throw error;
    throw new RegistryError("UNAUTHORIZED", error.message, { headers: [challenge("invalid_token")] });
  }
}

export interface Asked {
  readonly admission: Admission;
  readonly client: Client;
  readonly right: Right;
  readonly where: RepositoryOf;
  readonly challenge: Visit["challenge"];
}

/**
 * The client, as far as it has the right.
 * @throws RegistryError DENIED for a user without it, UNAUTHORIZED for others where they can log in
 */
export function withRight({ admission, client, right, where, challenge }: Asked, users: Users | undefined): Client {
  if (users === undefined) return client;
  if (client.kind === "user") {
    if (client.may(right, where)) return client;
    // From where everybody may read, a user may read no less than by leaving the password out.
    if (admission.kind === "open" && right === "pull") return { kind: "anonymous" };
    throw new RegistryError("DENIED", `you may not ${right} in this repository`);
  }
  if (admission.kind === "open") return client;
  if (users.anonymousMay(right, where)) return client.kind === "own" ? { ...client, may: users.anonymousMay } : client;
  if (admission.kind === "login" && admission.by === "password") throw strangers(client, challenge);
  throw refused();
}

/**
 * A password that came with the request itself, and that its registry refuses, is a failed login as at the token service.
 * @throws RegistryError TOOMANYREQUESTS for who was refused too often, and what `answer` throws
 */
export async function limited(
  { client, exchange, origin, route }: RegistryRequest,
  limit: LoginLimit,
  answer: () => Promise<Reply>,
): Promise<Reply> {
  const isBasic = /^basic /i.test(exchange.headers.get("authorization") ?? "");
  if (client.kind !== "own" || !isBasic) return answer();
  const who = `${route.registry.key}/${client.credential.username}`;
  limit.check(origin.client, who);
  try {
    return await answer();
  } catch (error) {
    const isRefused =
      error instanceof RegistryError && error.code === "DENIED" && exchange.notes.upstreamStatus === 401;
    if (isRefused) limit.failed(origin.client, who, client.credential.id);
    throw error;
  }
}

function strangers(client: Client, challenge: Visit["challenge"]): RegistryError {
  const header = client.kind === "none" ? challenge() : challenge("insufficient_scope");
  return new RegistryError("UNAUTHORIZED", "log in to use this registry", { headers: [header] });
}
