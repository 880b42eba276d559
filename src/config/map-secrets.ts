/**
 * What the map keeps in files: passwords, and the certificates and keys towards upstreams. Read and checked when the map
 * is, so that a wrong file is told then and not by the first pull. No message holds a secret.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import type { ConfiguredCredential, UpstreamTls } from "../registry/registry.ts";
import type { KeyGroup } from "./map-entries.ts";
import type { MapEntry } from "./map-schema.ts";
import { suggestion, type Problem } from "./problem.ts";

export interface SecretReading {
  readonly name: string;
  readonly problems: Problem[];
  /** The text of a file that the map names; rejects when it cannot be read. */
  readFile(path: string): Promise<string>;
}

export interface MapSecrets {
  readonly credentials: readonly ConfiguredCredential[];
  readonly tls: Omit<UpstreamTls, "insecureSkipVerify">;
}

/** Reads what one registry needs; what is wrong is told in `problems` and left out. */
export async function readSecrets({ keys, entry }: KeyGroup, reading: SecretReading): Promise<MapSecrets> {
  const place = { ...reading, name: `${reading.name}: ${keys[0]}` };
  const credentials = await Promise.all(
    entry.credentials.map((credential, i) => {
      return readCredential(credential, entry, { ...place, name: `${place.name}.credentials[${i}]` });
    }),
  );
  return { credentials: credentials.filter((one) => one !== undefined), tls: await readTls(entry, place) };
}

type CredentialEntry = MapEntry["credentials"][number];

/** A credential belongs to the origin it names, else to the first (product section 5). */
async function readCredential(
  credential: CredentialEntry,
  { upstreams }: MapEntry,
  { name, problems, readFile }: SecretReading,
): Promise<ConfiguredCredential | undefined> {
  const origins = upstreams.map(({ origin }) => origin);
  const origin = credential.upstream?.origin ?? origins[0];
  if (origin === undefined || !origins.includes(origin)) {
    const what = `expected one of the registry's upstreams, got ${origin}${suggestion(origin ?? "", origins)}`;
    problems.push({ from: `${name}.upstream`, what });
    return undefined;
  }
  const { passwordFile } = credential;
  const place = { name: `${name}.passwordFile`, problems, readFile };
  const password = passwordFile === undefined ? credential.password : (await readText(passwordFile, place))?.trim();
  if (password === "") problems.push({ from: place.name, what: `expected a password in ${passwordFile}, got nothing` });
  if (password === undefined || password === "") return undefined;
  return { origin, repositories: credential.repositories, username: credential.username, password };
}

async function readTls({ tls }: MapEntry, { name, ...reading }: SecretReading): Promise<MapSecrets["tls"]> {
  const ca = await readPem(tls?.caFile, "certificate", { ...reading, name: `${name}.tls.caFile` });
  const cert = await readPem(tls?.certFile, "certificate", { ...reading, name: `${name}.tls.certFile` });
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
