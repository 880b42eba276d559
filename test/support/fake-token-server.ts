/**
 * The token server of a fake registry, on its own port: GET, and POST as OAuth2 (protocol R93–R98).
 * It grants what the registry's access table allows; its faults are `registry.faults.token`.
 */
import type { FakeAccess } from "./fake-access.ts";
import { deliver, errorBody, utf8, type Delivery, type Plan } from "./fake-delivery.ts";
import { faultsFor, type Faults, type TokenFaults } from "./fake-faults.ts";
import type { RequestLog } from "./request-log.ts";
import { createWireServer, type WireRequest, type WireServer, type WireServerOptions } from "./wire-server.ts";

export interface TokenServerParts {
  readonly access: FakeAccess;
  readonly faults: () => Faults;
  readonly log: RequestLog;
  readonly delivery: Delivery;
}

/** Serves `/token`, and `/switched-token`, which refuses anonymous clients (protocol R111). */
export function createFakeTokenServer(options: WireServerOptions, parts: TokenServerParts): Promise<WireServer> {
  return createWireServer(options, async (request, answer) => {
    parts.log.add(request);
    const faults = faultsFor(parts.faults().token, request);
    await deliver({ request, answer }, answerFor(request, parts.access, faults), faults, parts.delivery);
  });
}

function answerFor(request: WireRequest, access: FakeAccess, faults: TokenFaults): Plan {
  if (request.path !== "/token" && request.path !== "/switched-token") return refuse(404, "no such path");
  const form = new URLSearchParams(request.method === "POST" ? new TextDecoder().decode(request.body) : request.query);
  const user = identify(request, form, access);
  if (user === "bad") return refuse(401, "incorrect username or password");
  if (request.path === "/switched-token" && user === undefined) return refuse(401, "authentication required");
  const granted = new Map<string, string[]>();
  for (const scope of form.getAll("scope").flatMap((text) => text.split(" "))) {
    const parts = /^repository(?:\([a-z]+\))?:(.+):([a-z,*]+)$/.exec(scope);
    if (parts === null) continue;
    const [, repository = "", actions = ""] = parts;
    const asked = actions.split(",");
    if (faults.refusesPushScope && user === undefined && asked.includes("push"))
      return refuse(403, "requested access to the resource is denied");
    const allowed = asked.filter((action) =>
      action === "pull" ? access.mayRead(user, repository) : access.mayWrite(user, repository),
    );
    if (faults.denies && allowed.length === 0) return refuse(403, "requested access to the resource is denied");
    if (allowed.length > 0) granted.set(repository, [...(granted.get(repository) ?? []), ...allowed]);
  }
  const token = access.issueToken({ user, granted }, faults.tokenLength);
  const wantsOffline = form.get("offline_token") === "true" || form.get("access_type") === "offline";
  const body = {
    ...Object.fromEntries((faults.fields ?? ["token", "access_token"]).map((field) => [field, token])),
    expires_in: "expiresIn" in faults ? faults.expiresIn : 300,
    ...(faults.issuedAt !== undefined && { issued_at: faults.issuedAt }),
    ...(user !== undefined && wantsOffline && { refresh_token: access.issueRefreshToken(user) }),
  };
  return { status: 200, lines: [["Content-Type", "application/json"]], body: utf8(JSON.stringify(body)) };
}

function identify(request: WireRequest, form: URLSearchParams, access: FakeAccess): string | undefined | "bad" {
  const basic = access.basicUser(request.headers.get("authorization"));
  if (basic !== undefined) return basic === "bad" ? "bad" : basic.user;
  if (form.get("grant_type") === "refresh_token") return access.refreshUser(form.get("refresh_token") ?? "") ?? "bad";
  const name = form.get("username");
  if (name === null) return undefined;
  return access.users[name]?.password === form.get("password") ? name : "bad";
}

function refuse(status: number, message: string): Plan {
  const body = utf8(errorBody(status === 403 ? "DENIED" : "UNAUTHORIZED", message));
  return { status, lines: [["Content-Type", "application/json"]], body };
}
