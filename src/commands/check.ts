/**
 * `layover check`: asks the questions that a first pull would ask, and says in a table what is well and what is not, each
 * fault with its mend. Nothing is changed and nothing listens.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { createMapSource } from "../config/map-source.ts";
import type { BuildInfo, MapSettings, Settings, TlsSettings } from "../config/settings.ts";
import { UNVERIFIED, unverifiedIn } from "../config/unverified.ts";
import { formatUpstream } from "../config/upstream-url.ts";
import { UpstreamError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { ConfiguredCredential, Registry, Upstream } from "../registry/registry.ts";
import { createUpstreamClient, type UpstreamClient } from "../upstream/client.ts";
import { describeSource } from "../upstream/credential-source.ts";
import { createCredentials, type Credentials } from "../upstream/credentials.ts";
import { chooseProxy, nameOfProxy } from "../upstream/proxy.ts";
import { TOKEN_KEY_FILE } from "../proxy/state.ts";
import { createAsker, mapServer, type Asker } from "./ask.ts";
import { checkAccess } from "./check-access.ts";
import { checkAnonymousQuota, pullsLeft, tokenTrouble, verdictOn } from "./check-quota.ts";
import type { Finding } from "./finding.ts";

export interface CheckDependencies {
  readonly log: Log;
  readonly build: BuildInfo;
  readFile(path: string): Promise<string>;
  /** Wall clock, milliseconds. */
  now(): number;
}

/** Upstreams asked at once: enough to be quick, few enough for a home router. */
const AT_ONCE = 8;
/** Let's Encrypt renews 30 days before the end; two weeks before it something has gone wrong. */
const SOON_MS = 14 * 86_400_000;
/** A token server is often another host than its registry. */
const TOKEN_SERVER_MEND = "; its host must be reached from here too";
/** Of a file's mode. */
const READABLE_BY_OTHERS = 0o004;

/**
 * Looks at everything.
 * @throws ConfigError for a wrong map, StartError when it cannot be had
 */
export async function check(settings: Settings, dependencies: CheckDependencies): Promise<Finding[]> {
  const { log, readFile, build } = dependencies;
  const asker = createAsker(settings.upstream, build.version);
  const client = createUpstreamClient({ ...settings.upstream, version: build.version });
  const request = (url: URL, signal: AbortSignal) => asker.ask(url, mapServer(url), signal);
  try {
    const { tls, access, stateDir } = settings;
    const secretFiles = new Set(
      [tls?.keyFile, tls?.passphraseFile, access.htpasswdFile, join(stateDir, TOKEN_KEY_FILE)].filter(
        (file) => file !== undefined,
      ),
    );
    const onSecretFile = (path: string) => void secretFiles.add(path);
    const maps = await createMapSource(settings.map, { log, readFile, request, onSecretFile });
    maps.close();
    const { registries, default: meant } = maps.current();
    const upstreams = registries.flatMap((registry) => registry.upstreams.map((upstream) => ({ registry, upstream })));
    return [
      { verdict: "ok", subject: "configuration", text: "every flag, variable and key is understood" },
      {
        verdict: "ok",
        subject: "registry map",
        text: `${mapText(settings.map)}: ${registries.length} ${registries.length === 1 ? "registry" : "registries"}, default ${meant.key}`,
      },
      ...(tls === undefined ? [] : [await checkCertificate(tls, dependencies)]),
      ...(await checkAccess(settings, { map: maps.current(), readFile })),
      ...(await inBatches(upstreams, (asked) => checkUpstream(asked, { asker, client, settings }))),
      ...unverifiedIn(maps.current()).map(({ key }): Finding => ({ verdict: "warn", subject: key, text: UNVERIFIED })),
      ...(await checkCredentials(registries, { client, now: dependencies.now })),
      ...(await checkSecretFiles(secretFiles)),
    ];
  } finally {
    await asker.close();
    await client.close();
  }
}

/** What may help, where the reason does not say so itself. */
function mendOf(error: unknown): string {
  if (!(error instanceof UpstreamError) || error.kind === "tls") return "";
  if (error.message.includes(" through "))
    return "; check that proxy: the map's proxy, --upstream-proxy or https_proxy";
  if (error.message.includes("could not be resolved")) return "; check the name in the map, and --resolver";
  return "; check the network, --upstream-proxy and the map";
}

/** The table; columns as wide as they must be. */
export function checkText(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  const lines = findings.map(
    ({ verdict, subject, text }) => `${verdict.toUpperCase().padEnd(4)}  ${subject.padEnd(width)}  ${text}`,
  );
  const count = (wanted: Finding["verdict"]) => findings.filter(({ verdict }) => verdict === wanted).length;
  const [faults, warnings] = [count("fail"), count("warn")];
  const result = faults === 0 ? "nothing is wrong" : `${faults} of ${findings.length} checks failed`;
  const more = warnings === 0 ? "" : `; ${warnings} ${warnings === 1 ? "warning" : "warnings"}`;
  return `${lines.join("\n")}\n\n${result}${more}\n`;
}

function mapText({ location }: MapSettings): string {
  if (location.kind === "built-in") return "built in";
  return location.kind === "file" ? location.path : location.url;
}

async function checkCertificate(tls: TlsSettings, { readFile, now }: CheckDependencies): Promise<Finding> {
  const subject = "certificate";
  try {
    const certificate = new X509Certificate(await readFile(tls.certFile));
    const passphrase = tls.passphraseFile === undefined ? undefined : (await readFile(tls.passphraseFile)).trim();
    const key = createPrivateKey({ key: await readFile(tls.keyFile), ...(passphrase !== undefined && { passphrase }) });
    if (!certificate.checkPrivateKey(key)) {
      return {
        verdict: "fail",
        subject,
        text: `${tls.keyFile} is not the key of ${tls.certFile}: give the pair that belongs together`,
      };
    }
    return certificateAge(certificate, now());
  } catch (error) {
    // Unreadable or no PEM: a finding like the others.
    return { verdict: "fail", subject, text: `${reasonOf(error)}; check --tls-cert and --tls-key` };
  }
}

function certificateAge(certificate: X509Certificate, nowMs: number): Finding {
  const subject = "certificate";
  const names = certificate.subjectAltName?.replaceAll(/(DNS|IP Address):/g, "") ?? certificate.subject;
  const leftMs = Date.parse(certificate.validTo) - nowMs;
  const until = `${names}, until ${new Date(certificate.validTo).toISOString().slice(0, 10)}`;
  if (Date.parse(certificate.validFrom) > nowMs)
    return { verdict: "fail", subject, text: `${names}: not valid yet; check the clock` };
  if (leftMs <= 0)
    return {
      verdict: "fail",
      subject,
      text: `${until}: expired; renew it, the new file is picked up without a restart`,
    };
  const days = Math.floor(leftMs / 86_400_000);
  if (leftMs < SOON_MS)
    return { verdict: "warn", subject, text: `${until}: ${days} days left; is its renewal running?` };
  return { verdict: "ok", subject, text: `${until} (${days} days)` };
}

interface Asked {
  readonly registry: Registry;
  readonly upstream: Upstream;
}

interface Means {
  readonly asker: Asker;
  readonly client: UpstreamClient;
  readonly settings: Settings;
}

async function checkUpstream({ registry, upstream }: Asked, { asker, client, settings }: Means): Promise<Finding> {
  const subject = registry.key;
  const shown = formatUpstream(upstream);
  const startedAtMs = performance.now();
  try {
    const url = new URL(`${upstream.origin}${upstream.basePath}/v2/`);
    const proxy = chooseProxy(url, registry, settings.upstream.proxies);
    const { status, body } = await asker.ask(url, registry, AbortSignal.timeout(30_000));
    await body?.cancel();
    const through = proxy.kind === "direct" ? "" : ` through ${nameOfProxy(proxy)}`;
    const took = `${Math.round(performance.now() - startedAtMs)} ms${through}`;
    if (status === 200) return { verdict: "ok", subject, text: `${shown}: open, ${took}` };
    const trouble = status === 401 ? await tokenTrouble(client, registry, upstream) : undefined;
    if (trouble !== undefined)
      return {
        verdict: "fail",
        subject,
        text: `${shown}: no token can be had, so nothing can be pulled: ${trouble}${TOKEN_SERVER_MEND}`,
      };
    if (status === 401) return { verdict: "ok", subject, text: `${shown}: asks for tokens or credentials, ${took}` };
    if (status === 429)
      return { verdict: "warn", subject, text: `${shown}: answers 429, too many requests from this address` };
    return {
      verdict: "fail",
      subject,
      text: `${shown}: expected 200 or 401 from /v2/, got ${status}; is this the URL of a registry?`,
    };
  } catch (error) {
    // The finding this command is for.
    const reason = reasonOf(error);
    const where = reason.startsWith(upstream.origin) ? "" : `${shown}: `;
    return { verdict: "fail", subject, text: `${where}${reason}${mendOf(error)}` };
  }
}

interface Configured {
  readonly registry: Registry;
  readonly credential: ConfiguredCredential;
}

async function checkCredentials(registries: readonly Registry[], asking: Asking): Promise<Finding[]> {
  const configured = registries.flatMap((registry) =>
    registry.credentials.map((credential) => ({ registry, credential })),
  );
  const credentials = createCredentials({ now: asking.now });
  const { client } = asking;
  try {
    const anonymous = await Promise.all(registries.map((registry) => checkAnonymousQuota(client, registry)));
    return [
      ...anonymous.flat(),
      ...(await inBatches(configured, (one) => checkCredential(one, { credentials, client }))),
    ];
  } finally {
    credentials.close();
  }
}

interface Asking extends Pick<CheckDependencies, "now"> {
  readonly client: UpstreamClient;
}

/** Gets it as a pull would, and shows it to its registry. */
async function checkCredential(
  { registry, credential: configured }: Configured,
  { credentials, client }: { credentials: Credentials; client: UpstreamClient },
): Promise<Finding> {
  const subject = registry.key;
  const patterns = configured.repositories.length === 0 ? "" : ` for ${configured.repositories.join(", ")}`;
  const who = `${describeSource(configured.source)} at ${configured.origin}${patterns}`;
  const limits = { signal: AbortSignal.timeout(30_000), deadlineMs: performance.now() + 30_000 };
  try {
    const { credential, expiresAtMs } = await credentials.obtain(configured);
    const verdict = await client.verify(registry, credential, { ...limits, scopes: [] });
    const end = expiresAtMs === undefined ? "" : `; renewed before ${new Date(expiresAtMs).toISOString()}`;
    if (verdict === "accepted") {
      const left = await pullsLeft(client, registry, { kind: "credential", credential });
      return {
        verdict: verdictOn(left),
        subject,
        text: `${who}: accepted${left === undefined ? "" : `, ${left}`}${end}`,
      };
    }
    if (verdict === "unneeded")
      return { verdict: "warn", subject, text: `${who}: not needed, the registry asks nobody to log in` };
    return { verdict: "fail", subject, text: `${who}: refused; check the account where it is configured` };
  } catch (error) {
    // The finding this command is for.
    return { verdict: "fail", subject, text: `${who}: could not be tried: ${reasonOf(error)}` };
  }
}

/** Whoever has an account on this machine could read them. */
async function checkSecretFiles(paths: ReadonlySet<string>): Promise<Finding[]> {
  const findings = await Promise.all([...paths].map(checkSecretFile));
  return findings.filter((finding) => finding !== undefined);
}

async function checkSecretFile(path: string): Promise<Finding | undefined> {
  const mode = await stat(path).then(
    ({ mode }) => mode,
    () => 0,
  ); // one that cannot be had is told by who wants it
  if ((mode & READABLE_BY_OTHERS) === 0) return undefined;
  return {
    verdict: "warn",
    subject: "secrets",
    text: `${path} holds a secret and every user of this machine may read it; chmod o-r ${path}`,
  };
}

async function inBatches<T>(items: readonly T[], one: (item: T) => Promise<Finding>): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (let start = 0; start < items.length; start += AT_ONCE) {
    findings.push(...(await Promise.all(items.slice(start, start + AT_ONCE).map(one))));
  }
  return findings;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
