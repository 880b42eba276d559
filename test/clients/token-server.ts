/**
 * A token server for docker-registry: JWTs signed with RS256 that carry their certificate, by GET and by OAuth2 POST.
 * Anonymous clients may pull everything but `private/*`.
 */
import { createPrivateKey, randomUUID, sign, type KeyObject } from "node:crypto";

export interface TokenServerOptions {
  certPem: string;
  keyPem: string;
  /** User → password. */
  users: Record<string, string>;
  issuer: string;
  /** Seconds that tokens live. */
  expiresIn: number;
  /** Also serve https with this certificate, for registries that do (protocol R107). */
  tls: { cert: string; key: string };
}

export interface TokenServer {
  /** `http://127.0.0.1:41234/token` */
  readonly realm: string;
  /** `https://127.0.0.1:41235/token` */
  readonly secureRealm: string;
  /** Requests so far: method, user (`"-"` for anonymous), scopes. */
  readonly seen: readonly string[];
  stop(): Promise<void>;
}

interface Access {
  type: string;
  name: string;
  actions: string[];
}

export function startTokenServer(options: TokenServerOptions): TokenServer {
  const key = createPrivateKey(options.keyPem);
  const seen: string[] = [];
  const refreshTokens = new Map<string, string>();
  const listening = {
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    async fetch(request: Request): Promise<Response> {
      const url = new URL(request.url);
      if (url.pathname !== "/token") return new Response("not found", { status: 404 });
      const form = request.method === "POST" ? new URLSearchParams(await request.text()) : url.searchParams;
      const user = userOf(request, form, options.users, refreshTokens);
      if (user === "refused") return Response.json({ details: "incorrect username or password" }, { status: 401 });
      const scopes = form.getAll("scope").flatMap((scope) => scope.split(" "));
      seen.push(`${request.method} ${user ?? "-"} ${scopes.join(" ")}`);
      const access = scopes
        .map(parseScope)
        .map((each) => grant(each, user))
        .filter(({ actions }) => actions.length > 0);
      const token = jwt(options, key, { subject: user ?? "", audience: form.get("service") ?? "", access });
      const wantsRefresh = form.get("offline_token") === "true" || form.get("access_type") === "offline";
      const refreshToken = user !== undefined && wantsRefresh ? randomUUID() : undefined;
      if (refreshToken !== undefined && user !== undefined) refreshTokens.set(refreshToken, user);
      return Response.json({ token, access_token: token, expires_in: options.expiresIn, refresh_token: refreshToken });
    },
  };
  const plain = Bun.serve(listening);
  const secure = Bun.serve({ ...listening, tls: options.tls });
  return {
    realm: `http://127.0.0.1:${plain.port}/token`,
    secureRealm: `https://127.0.0.1:${secure.port}/token`,
    seen,
    async stop() {
      await Promise.all([plain.stop(true), secure.stop(true)]);
    },
  };
}

function userOf(
  request: Request,
  form: URLSearchParams,
  users: Record<string, string>,
  refreshTokens: ReadonlyMap<string, string>,
): string | undefined | "refused" {
  if (form.get("grant_type") === "refresh_token")
    return refreshTokens.get(form.get("refresh_token") ?? "") ?? "refused";
  const basic = /^Basic (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const given =
    basic === undefined
      ? `${form.get("username") ?? ""}:${form.get("password") ?? ""}`
      : Buffer.from(basic, "base64").toString();
  if (given === ":") return undefined;
  const [, name = "", password = ""] = /^([^:]*):(.*)$/s.exec(given) ?? [];
  return users[name] === password ? name : "refused";
}

/** `repository:host:5000/a/b:pull,push`: the name may hold a colon. */
function parseScope(scope: string): Access {
  const parts = scope.split(":");
  return { type: parts[0] ?? "", name: parts.slice(1, -1).join(":"), actions: (parts.at(-1) ?? "").split(",") };
}

function grant(access: Access, user: string | undefined): Access {
  if (user !== undefined) return access;
  const isOpen = access.type === "repository" && !access.name.startsWith("private/");
  return { ...access, actions: access.actions.filter((action) => isOpen && action === "pull") };
}

function jwt(
  options: TokenServerOptions,
  key: KeyObject,
  claims: { subject: string; audience: string; access: Access[] },
): string {
  const now = Math.floor(Date.now() / 1000);
  const x5c = [options.certPem.replace(/-----[^-]+-----|\s/g, "")];
  const body = {
    iss: options.issuer,
    sub: claims.subject,
    aud: claims.audience,
    exp: now + options.expiresIn,
    nbf: now - 5,
    iat: now,
    jti: randomUUID(),
    access: claims.access,
  };
  const signed = [{ alg: "RS256", typ: "JWT", x5c }, body]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
}
