/**
 * Real registries for the client suite: Debian's docker-registry over one shared store, once for each way of asking for
 * credentials and of handing out blobs. What the well-known registries do, without them:
 *
 *     hub    tokens, blobs by 307 to a CDN that refuses Authorization (Docker Hub)
 *     quay   open, blobs from the registry itself
 *     ghcr   tokens, TLS by a private authority
 *     ecr    Basic only
 */
import { join } from "node:path";
import { testAuthority } from "../support/certs.ts";
import type { Catalogue } from "./catalogue.ts";
import { answers, startDaemon, type Daemon } from "./daemon.ts";
import { pushImage } from "./push.ts";
import { startTokenServer, type TokenServer } from "./token-server.ts";

export type UpstreamName = "hub" | "quay" | "ghcr" | "ecr";

export interface Upstreams {
  /** `"http://127.0.0.1:5101"` */
  readonly url: Readonly<Record<UpstreamName, string>>;
  /** PEM of the authority that ghcr's certificate comes from. */
  readonly caFile: string;
  readonly tokens: TokenServer;
  /** Blobs that the CDN has served. */
  cdnRequests(): number;
  stop(): Promise<void>;
}

export const UPSTREAM_USER = { username: "alice", password: "secret" };

/** Fixed: the suite has a network of its own. */
const PORTS: Record<UpstreamName, number> = { hub: 5101, quay: 5102, ghcr: 5103, ecr: 5104 };
const TOKEN_SERVICE = "test-registry";
const ISSUER = "test-issuer";

/** @param dir for configuration and logs; @param store where docker-registry keeps its files */
export async function startUpstreams(dir: string, store: string): Promise<Upstreams> {
  const authority = testAuthority("Upstream CA");
  const leaf = authority.issue({ names: ["ghcr.upstream.test", "localhost", "127.0.0.1"] });
  const signer = authority.issue({ kind: "rsa", names: ["token.test"] });
  const file = async (name: string, text: string): Promise<string> => {
    await Bun.write(join(dir, name), text);
    return join(dir, name);
  };
  const caFile = await file("upstream-ca.pem", authority.certPem);
  const certFile = await file("ghcr.pem", leaf.certPem);
  const keyFile = await file("ghcr-key.pem", leaf.keyPem);
  const tokens = startTokenServer({
    ...signer,
    users: { [UPSTREAM_USER.username]: UPSTREAM_USER.password },
    issuer: ISSUER,
    expiresIn: 300,
    tls: { cert: leaf.certPem, key: leaf.keyPem },
  });
  const cdn = startCdn(store);
  const passwords = `${UPSTREAM_USER.username}:${await Bun.password.hash(UPSTREAM_USER.password, { algorithm: "bcrypt", cost: 4 })}\n`;
  const htpasswd = await file("htpasswd", passwords);
  const tokenAuth = (realm: string): string =>
    `auth: {token: {realm: "${realm}", service: ${TOKEN_SERVICE}, issuer: ${ISSUER}, rootcertbundle: ${caFile}}}`;
  const extras: Record<UpstreamName, string> = {
    hub: `${tokenAuth(tokens.realm)}\nmiddleware: {storage: [{name: redirect, options: {baseurl: "${cdn.url}"}}]}`,
    quay: "",
    ghcr: tokenAuth(tokens.secureRealm),
    ecr: `auth: {htpasswd: {realm: test, path: ${htpasswd}}}`,
  };
  const daemons: Daemon[] = [];
  const url: Partial<Record<UpstreamName, string>> = {};
  for (const name of ["hub", "quay", "ghcr", "ecr"] as const) {
    const tls = name === "ghcr" ? `  tls: {certificate: ${certFile}, key: ${keyFile}}` : "";
    const origin = `${name === "ghcr" ? "https" : "http"}://127.0.0.1:${PORTS[name]}`;
    const config = await file(`${name}.yml`, registryConfig(PORTS[name], store, `${tls}\n${extras[name]}`));
    const isReady = (): Promise<boolean> => answers(`${origin}/v2/`, { tls: { rejectUnauthorized: false } });
    daemons.push(await startDaemon(name, ["docker-registry", "serve", config], { dir, isReady }));
    url[name] = origin;
  }
  return {
    url: { hub: "", quay: "", ghcr: "", ecr: "", ...url },
    caFile,
    tokens,
    cdnRequests: cdn.requests,
    async stop() {
      await Promise.all([...daemons.map((daemon) => daemon.stop()), tokens.stop(), cdn.stop()]);
    },
  };
}

/** Fills an empty store through a registry without authentication. */
export async function populate(dir: string, store: string, catalogue: Catalogue): Promise<void> {
  const port = 5100;
  await Bun.write(join(dir, "populate.yml"), registryConfig(port, store, ""));
  const url = `http://127.0.0.1:${port}`;
  const isReady = (): Promise<boolean> => answers(`${url}/v2/`);
  const registry = await startDaemon("populate", ["docker-registry", "serve", join(dir, "populate.yml")], {
    dir,
    isReady,
  });
  for (const [name, image] of catalogue.images) await pushImage(url, name.slice(0, name.lastIndexOf(":")), image);
  await registry.stop();
}

function registryConfig(port: number, store: string, extra: string): string {
  return `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: ${store}}
  delete: {enabled: true}
http:
  addr: 127.0.0.1:${port}
  secret: test
${extra}
`;
}

/** Serves the store's files by the URLs docker-registry redirects to; 400 to Authorization, as S3 does (protocol R131). */
function startCdn(store: string): { url: string; requests: () => number; stop: () => Promise<void> } {
  let count = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    development: false,
    idleTimeout: 255,
    fetch(request) {
      count++;
      if (request.headers.has("authorization")) return new Response("Only one auth mechanism allowed", { status: 400 });
      const { pathname } = new URL(request.url);
      if (!/^\/docker\/registry\/v2\/blobs\/sha256\/[0-9a-f]{2}\/[0-9a-f]{64}\/data$/.test(pathname))
        return new Response("", { status: 404 });
      return new Response(Bun.file(join(store, pathname)));
    },
  });
  return { url: `http://127.0.0.1:${server.port}/`, requests: () => count, stop: () => server.stop(true) };
}
