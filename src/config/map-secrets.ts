/**
 * What the map keeps elsewhere: passwords and tokens in files and variables, docker's configuration, and the certificates and
 * keys towards upstreams. Read and checked when the map is, so that a wrong file is told then and not by the first pull. No
 * message holds a secret.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import type { ConfiguredCredential, CredentialSource, UpstreamTls } from "../registry/registry.ts";
import { hostOfLogin, parseDockerConfig, type HostLogin } from "./docker-config.ts";
import { PROGRAM_TIMEOUT_MS } from "./map-credential.ts";
import { credentialsFor, originFor, type LoginPlace } from "./map-logins.ts";
import type { MapEntry } from "./map-schema.ts";
import { suggestion, type Problem } from "./problem.ts";

export interface SecretReading {
  readonly name: string;
  readonly problems: Problem[];
  /** The text of a file that the map names; rejects when it cannot be read. */
  readFile(path: string): Promise<string>;
  /** Our environment, for passwords in it. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Told of each file that holds a secret. */
  onSecretFile(path: string): void;
}

export interface MapSecrets {
  readonly credentials: readonly ConfiguredCredential[];
  readonly tls: Omit<UpstreamTls, "insecureSkipVerify">;
}

/** Reads what one registry needs; what is wrong is told in `problems` and left out. */
export async function readSecrets(place: LoginPlace, reading: SecretReading): Promise<MapSecrets> {
  const { keys, entry } = place.group;
  const at = { ...reading, name: `${reading.name}: ${keys[0]}` };
  if (entry.credentials.some(({ password }) => password !== undefined)) reading.onSecretFile(reading.name);
  const credentials = await Promise.all(
    entry.credentials.map((credential, i) => {
      return readCredential(credential, place, { ...at, name: `${at.name}.credentials[${i}]` });
    }),
  );
  return { credentials: credentials.flat(), tls: await readTls(entry, at) };
}

/** The accounts of --docker-config, for whichever registries of the map they are. */
export async function readDockerConfig(path: string, reading: SecretReading): Promise<readonly HostLogin[]> {
  const at = { ...reading, name: "--docker-config" };
  reading.onSecretFile(path);
  const text = await readText(path, at);
  if (text === undefined) return [];
  const limits = { timeoutMs: PROGRAM_TIMEOUT_MS, env: [] };
  return parseDockerConfig(text, { ...at, name: `--docker-config: ${path}`, limits }).logins;
}

type CredentialEntry = MapEntry["credentials"][number];

/** A credential belongs to the origin it names, else to the first (product section 5). */
async function readCredential(
  credential: CredentialEntry,
  place: LoginPlace,
  reading: SecretReading,
): Promise<ConfiguredCredential[]> {
  const origins = place.group.entry.upstreams.map(({ origin }) => origin);
  const origin = credential.upstream?.origin ?? origins[0];
  if (origin === undefined || !origins.includes(origin)) {
    const what = `expected one of the registry's upstreams, got ${origin}${suggestion(origin ?? "", origins)}`;
    reading.problems.push({ from: `${reading.name}.upstream`, what });
    return [];
  }
  if (credential.dockerConfig !== undefined)
    return readDockerLogins(credential.dockerConfig, { credential, place }, reading);
  const source = await readSource(credential, reading);
  return source === undefined ? [] : [{ origin, repositories: credential.repositories, source }];
}

async function readSource(credential: CredentialEntry, reading: SecretReading): Promise<CredentialSource | undefined> {
  const { username, identityTokenFile, exec } = credential;
  if (exec !== undefined) return { kind: "exec", argv: exec, ...(username && { username }), ...limitsOf(credential) };
  if (identityTokenFile !== undefined) {
    const token = await readSecretFile(identityTokenFile, { ...reading, name: `${reading.name}.identityTokenFile` });
    return token === undefined ? undefined : { kind: "identity-token", token };
  }
  const password = await readPassword(credential, reading);
  return username === undefined || password === undefined ? undefined : { kind: "password", username, password };
}

function limitsOf({ timeout = PROGRAM_TIMEOUT_MS, env = [] }: CredentialEntry): { timeoutMs: number; env: string[] } {
  return { timeoutMs: timeout, env };
}

async function readPassword(
  { password, passwordFile, passwordEnv }: CredentialEntry,
  reading: SecretReading,
): Promise<string | undefined> {
  if (passwordFile !== undefined)
    return readSecretFile(passwordFile, { ...reading, name: `${reading.name}.passwordFile` });
  if (passwordEnv === undefined) return password;
  const value = reading.env[passwordEnv]?.trim();
  if (value !== undefined && value !== "") return value;
  reading.problems.push({
    from: `${reading.name}.passwordEnv`,
    what: `expected a password in $${passwordEnv}, got nothing`,
  });
  return undefined;
}

async function readSecretFile(path: string, reading: SecretReading): Promise<string | undefined> {
  reading.onSecretFile(path);
  const text = (await readText(path, reading))?.trim();
  if (text !== "") return text;
  reading.problems.push({ from: reading.name, what: `expected a password in ${path}, got nothing` });
  return undefined;
}

interface DockerPlace {
  readonly credential: CredentialEntry;
  readonly place: LoginPlace;
}

/** The file's accounts for this registry's hosts; else its general store is asked for the upstream's. */
async function readDockerLogins(
  path: string,
  { credential, place }: DockerPlace,
  reading: SecretReading,
): Promise<ConfiguredCredential[]> {
  const at = { ...reading, name: `${reading.name}.dockerConfig` };
  reading.onSecretFile(path);
  const text = await readText(path, at);
  if (text === undefined) return [];
  const before = reading.problems.length;
  const config = parseDockerConfig(text, { ...at, name: `${at.name}: ${path}`, limits: limitsOf(credential) });
  const { upstream, repositories } = credential;
  const isMeant = ({ origin }: ConfiguredCredential) => upstream === undefined || origin === upstream.origin;
  const found = credentialsFor(config.logins, place).filter(isMeant);
  const logins =
    found.length > 0 ? found : credentialsFor(storeLogins(config, place), place).filter(isMeant).slice(0, 1);
  if (logins.length === 0 && reading.problems.length === before)
    reading.problems.push({ from: at.name, what: `expected an account of ${place.hosts.join(" or ")} in ${path}` });
  return logins.map((login) => (login.repositories.length === 0 ? { ...login, repositories } : login));
}

function storeLogins({ storeLogin }: ReturnType<typeof parseDockerConfig>, place: LoginPlace) {
  return place.hosts.map(hostOfLogin).flatMap((host) => {
    const login = originFor(host, place) === undefined ? undefined : storeLogin(host);
    return login === undefined ? [] : [login];
  });
}

async function readTls({ tls }: MapEntry, { name, ...reading }: SecretReading): Promise<MapSecrets["tls"]> {
  const ca = await readPem(tls?.caFile, "certificate", { ...reading, name: `${name}.tls.caFile` });
  const cert = await readPem(tls?.certFile, "certificate", { ...reading, name: `${name}.tls.certFile` });
  if (tls?.keyFile !== undefined) reading.onSecretFile(tls.keyFile);
  const key = await readPem(tls?.keyFile, "key", { ...reading, name: `${name}.tls.keyFile` });
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
}

async function readPem(
  path: string | undefined,
  kind: "certificate" | "key",
  reading: SecretReading,
): Promise<string | undefined> {
  if (path === undefined) return undefined;
  const pem = await readText(path, reading);
  if (pem === undefined) return undefined;
  try {
    if (kind === "certificate") new X509Certificate(pem);
    else createPrivateKey(pem);
    return pem;
  } catch {
    // The library's message may quote the file: only what was expected is told.
    reading.problems.push({ from: reading.name, what: `expected a PEM ${kind} without passphrase in ${path}` });
    return undefined;
  }
}

async function readText(path: string, { name, problems, readFile }: SecretReading): Promise<string | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    // Becomes one of the problems that are told together.
    problems.push({
      from: name,
      what: `cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`,
    });
    return undefined;
  }
}
