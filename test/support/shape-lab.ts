/**
 * Registries and proxies of every shape that an upstream can have, in the test's own process, with the names that only the lab's own
 * DNS server knows: `<key>.corp.test` for a registry of the map under that key.
 */
import { testAuthority } from "./certs.ts";
import { createDnsServer, type DnsServer } from "./dns-server.ts";
import { createFakeRegistry, type FakeRegistry } from "./fake-registry.ts";
import { createHttpProxy, createSocksProxy, type ForwardProxy } from "./forward-proxy.ts";
import type { Image } from "./images.ts";
import { createTempDir, type TempDir } from "./temp-dir.ts";

const authority = testAuthority("Corporation");
const YEAR_AGO = new Date(Date.now() - 365 * 86_400_000);

export interface ShapeLab {
  /** With `ca.pem`, `other.pem` (an authority of somebody else), `client.pem` and `client.key`. */
  readonly dir: TempDir;
  readonly dns: DnsServer;
  readonly registries: Readonly<
    Record<
      | "plain"
      | "based"
      | "six"
      | "secure"
      | "sixSecure"
      | "sixBehind"
      | "mutual"
      | "mutualBehind"
      | "expired"
      | "misnamed",
      FakeRegistry
    >
  >;
  readonly proxies: Readonly<
    Record<"http" | "password" | "refusing" | "tls" | "socks" | "socksPassword" | "socksRefusing", ForwardProxy>
  >;
  /** A port that nobody listens on. */
  readonly gone: string;
  stop(): Promise<void>;
}

/** @param image what every registry has as `org/app` */
export async function openShapeLab(image: Image): Promise<ShapeLab> {
  const dir = await createTempDir("layover-shapes-");
  const client = authority.issue({ names: ["layover"], usage: "client" });
  await Promise.all([
    Bun.write(dir.file("ca.pem"), authority.certPem),
    Bun.write(dir.file("other.pem"), testAuthority("Somebody else").certPem),
    Bun.write(dir.file("client.pem"), client.certPem),
    Bun.write(dir.file("client.key"), client.keyPem, { mode: 0o600 }),
  ]);
  const registries = await openRegistries();
  for (const registry of Object.values(registries)) registry.add("org/app", image);
  nameRealms(registries);
  const proxies = await openProxies();
  const gone = await createHttpProxy();
  await gone.close();
  const dns = await createDnsServer({
    "silent.test": "silent",
    "lost.test": "servfail",
    "tokens.corp.test": ["127.0.0.1"],
  });
  return {
    dir,
    dns,
    registries,
    proxies,
    gone: gone.host,
    async stop() {
      await Promise.all([...Object.values(registries), ...Object.values(proxies), dns].map((each) => each.close()));
      await dir.remove();
    },
  };
}

async function openRegistries(): Promise<ShapeLab["registries"]> {
  const auth = "bearer" as const;
  return {
    plain: await createFakeRegistry({ auth }),
    based: await createFakeRegistry({ auth, basePath: "/artifactory/api/docker/hub" }),
    six: await createFakeRegistry({ auth, hostname: "::1" }),
    secure: await createFakeRegistry({ auth, tls: leaf() }),
    sixSecure: await createFakeRegistry({ auth, tls: leaf(), hostname: "::1" }),
    sixBehind: await createFakeRegistry({ auth, tls: leaf(), hostname: "::1" }),
    mutual: await createFakeRegistry({ auth, tls: { ...leaf(), ca: authority.certPem } }),
    mutualBehind: await createFakeRegistry({ auth, tls: { ...leaf(), ca: authority.certPem } }),
    expired: await createFakeRegistry({ auth, tls: leaf(undefined, YEAR_AGO) }),
    misnamed: await createFakeRegistry({ auth, tls: leaf(["elsewhere.test"]) }),
  };
}

/** Token servers have names, as a registry behind a proxy names them; those that want a client certificate are beside theirs. */
function nameRealms({ plain, secure, misnamed, mutual, mutualBehind }: ShapeLab["registries"]): void {
  const name = (registry: FakeRegistry, host: string) => {
    const { protocol, port } = new URL(registry.tokenUrl);
    registry.faults.auth.realm = `${protocol}//${host}:${port}/token`;
  };
  for (const registry of [plain, secure, misnamed]) name(registry, "tokens.corp.test");
  name(mutual, "mutual.corp.test");
  name(mutualBehind, "http-proxy-mutual.corp.test");
}

/** The password has what URLs and headers must carry with care. */
async function openProxies(): Promise<ShapeLab["proxies"]> {
  const password = "ann:pä ss";
  return {
    http: await createHttpProxy(),
    password: await createHttpProxy({ password }),
    refusing: await createHttpProxy({ refuses: true }),
    tls: await createHttpProxy({ tls: leaf() }),
    socks: await createSocksProxy(),
    socksPassword: await createSocksProxy({ password }),
    socksRefusing: await createSocksProxy({ refuses: true }),
  };
}

function leaf(names = ["*.corp.test", "127.0.0.1", "::1"], notAfter?: Date) {
  const { certPem, keyPem } = authority.issue({ names, ...(notAfter !== undefined && { notAfter }) });
  return { cert: certPem, key: keyPem };
}
