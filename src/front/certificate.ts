/**
 * Our own certificate: read, checked, and kept up to date. A file that is replaced, by rename, by a switched symlink or in
 * place, is picked up without a restart; connections made before keep the old one (lesson T27, compat C27). A bad
 * replacement changes nothing and is said in the log.
 */
import { X509Certificate, createPrivateKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import tls from "node:tls";
import type { Log } from "../log.ts";
import { watchFiles } from "./watch.ts";

export interface CertificateFiles {
  /** PEM: the leaf first, then its chain. */
  readonly certFile: string;
  /** PEM: RSA, EC or Ed25519 as PKCS#1, SEC1 or PKCS#8, encrypted or not. */
  readonly keyFile: string;
  /** File whose first line decrypts the key. */
  readonly passphraseFile: string | undefined;
  /** PEM: authorities whose certificates clients may show; absent, clients are not asked for any. */
  readonly clientCaFile?: string | undefined;
}

/** A certificate that was read and fits its key. */
export interface LoadedCertificate {
  readonly secureContext: tls.SecureContext;
  /** DNS names (`"*.example.com"` too) and addresses it is for, lower case. */
  readonly names: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SHA-256 of the leaf, as openssl prints it. */
  readonly fingerprint: string;
  /** Undefined where clients show no certificates. */
  readonly clientAuthorities: readonly X509Certificate[] | undefined;
}

/** The certificate in force. */
export interface WatchedCertificate {
  current(): LoadedCertificate;
  /** Reads the files again. A bad certificate is logged and the old one stays: never rejects. */
  reload(): Promise<void>;
  /** Stops watching. */
  close(): void;
}

export interface CertificateDependencies {
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** How long files must be quiet before they are read again: certificate and key are written one after the other. */
  readonly quietMs?: number;
}

/** A certificate or key that cannot be used; the message names the file, the reason and the mend. */
export class CertificateError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "CertificateError";
  }
}

const QUIET_MS = 1_000;

/**
 * Loads the certificate and watches its files.
 * @throws CertificateError when the first load fails
 */
export async function watchCertificate(
  files: CertificateFiles,
  { log, now = Date.now, quietMs = QUIET_MS }: CertificateDependencies,
): Promise<WatchedCertificate> {
  let current = await loadCertificate(files);
  warnOfDates(current, { log, now, file: files.certFile });
  let running: Promise<void> = Promise.resolve();

  async function replace(): Promise<void> {
    try {
      const next = await loadCertificate(files);
      const fault = dateFault(next, now());
      if (fault !== undefined && dateFault(current, now()) === undefined) {
        throw new CertificateError(`${files.certFile}: ${fault}`);
      }
      const isOther = next.fingerprint !== current.fingerprint;
      const haveChanged = authoritiesOf(next) !== authoritiesOf(current);
      current = next;
      if (haveChanged) log.info({ file: files.clientCaFile }, "authorities of client certificates replaced");
      if (!isOther) return;
      log.info({ file: files.certFile, notAfter: next.notAfter, names: next.names }, "certificate replaced");
      warnOfDates(next, { log, now, file: files.certFile });
    } catch (error) {
      log.error({ reason: messageOf(error) }, "new certificate refused, the old one stays");
    }
  }
  /** One at a time: an older read must not win over a newer one. */
  function reload(): Promise<void> {
    running = running.then(replace);
    return running;
  }

  const paths = [files.certFile, files.keyFile, files.passphraseFile, files.clientCaFile].filter(
    (file) => file !== undefined,
  );
  const watch = watchFiles(paths, { quietMs, changed: () => void reload() });
  return { current: () => current, reload, close: watch.close };
}

/**
 * Reads and checks a certificate, its chain and its key. Dates are the caller's to judge.
 * @throws CertificateError
 */
export async function loadCertificate(files: CertificateFiles): Promise<LoadedCertificate> {
  const chainPem = await readText(files.certFile);
  const keyPem = await readText(files.keyFile);
  const passphrase = files.passphraseFile === undefined ? undefined : firstLine(await readText(files.passphraseFile));
  const chain = parseChain(files.certFile, chainPem);
  const key = parseKey(files.keyFile, keyPem, passphrase);
  const [leaf] = chain;
  checkPair(files, chain, key);
  const { clientCaFile } = files;
  const authorities = clientCaFile === undefined ? undefined : parseChain(clientCaFile, await readText(clientCaFile));
  return {
    secureContext: secureContextOf(files, { chain, key, authorities }),
    clientAuthorities: authorities,
    names: namesOf(leaf),
    notBefore: new Date(leaf.validFrom),
    notAfter: new Date(leaf.validTo),
    fingerprint: leaf.fingerprint256,
  };
}

/** What is wrong with the dates: `"expired on 2026-01-31"`; undefined while it is valid. */
export function dateFault(certificate: LoadedCertificate, nowMs: number): string | undefined {
  if (nowMs > certificate.notAfter.getTime()) return `expired on ${day(certificate.notAfter)}: renew it`;
  if (nowMs < certificate.notBefore.getTime()) return `valid only from ${day(certificate.notBefore)}: check the clock`;
  return undefined;
}

type Chain = readonly [X509Certificate, ...X509Certificate[]];

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

function parseChain(file: string, pem: string): Chain {
  const [first, ...rest] = pem.match(PEM_CERTIFICATE) ?? [];
  if (first === undefined) {
    const mend = pem.includes("PRIVATE KEY")
      ? "it holds a key: are certificate and key exchanged?"
      : "give the PEM file";
    throw new CertificateError(`${file}: expected a PEM certificate, found none; ${mend}`);
  }
  const parse = (block: string, index: number): X509Certificate => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      const message = `${file}: certificate ${index + 1} of the chain cannot be read (${messageOf(cause)}); get the file anew`;
      throw new CertificateError(message, { cause });
    }
  };
  return [parse(first, 0), ...rest.map((block, index) => parse(block, index + 1))];
}

function parseKey(file: string, pem: string, passphrase: string | undefined): KeyObject {
  if (!pem.includes("PRIVATE KEY-----")) {
    throw new CertificateError(`${file}: expected a PEM private key, found none; are certificate and key exchanged?`);
  }
  const isEncrypted = /BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED/.test(pem);
  if (isEncrypted && passphrase === undefined) {
    throw new CertificateError(`${file}: the key is encrypted; give its passphrase with --tls-key-passphrase-file`);
  }
  try {
    return createPrivateKey({ key: pem, ...(passphrase === undefined ? {} : { passphrase }) });
  } catch (cause) {
    const reason = isEncrypted
      ? "the passphrase does not open the key"
      : `the key cannot be read (${messageOf(cause)})`;
    throw new CertificateError(`${file}: ${reason}; check the file`, { cause });
  }
}

const KEY_TYPES: ReadonlySet<string> = new Set(["rsa", "ec", "ed25519"]);

function checkPair({ certFile, keyFile }: CertificateFiles, [leaf, ...rest]: Chain, key: KeyObject): void {
  if (!KEY_TYPES.has(key.asymmetricKeyType ?? "")) {
    throw new CertificateError(`${keyFile}: expected an RSA, EC or Ed25519 key, got ${key.asymmetricKeyType}`);
  }
  if (leaf.checkPrivateKey(key)) return;
  const isMisplaced = rest.some((certificate) => certificate.checkPrivateKey(key));
  const mend = isMisplaced ? "put the certificate of the key first in the chain" : "give the key it was issued for";
  throw new CertificateError(`${certFile}: the certificate does not belong to the key in ${keyFile}; ${mend}`);
}

function authoritiesOf({ clientAuthorities }: LoadedCertificate): string {
  return (clientAuthorities ?? []).map(({ fingerprint256 }) => fingerprint256).join(" ");
}

interface Parsed {
  readonly chain: Chain;
  readonly key: KeyObject;
  readonly authorities: Chain | undefined;
}

function secureContextOf(files: CertificateFiles, { chain, key, authorities }: Parsed): tls.SecureContext {
  try {
    return tls.createSecureContext({
      cert: chain.map((certificate) => certificate.toString()).join("\n"),
      key: key.export({ type: "pkcs8", format: "pem" }),
      minVersion: "TLSv1.2",
      // Nothing but these: without the list the public authorities would do.
      ...(authorities === undefined ? {} : { ca: authorities.map((authority) => authority.toString()) }),
    });
  } catch (cause) {
    throw new CertificateError(`${files.certFile}: TLS refuses the certificate (${messageOf(cause)})`, { cause });
  }
}

/** Only plain names: what node puts in quotes holds characters that no host name has. */
function namesOf(leaf: X509Certificate): string[] {
  const entries = (leaf.subjectAltName ?? "").split(", ");
  return entries.flatMap((entry) => {
    const match = /^(?:DNS|IP Address):([A-Za-z0-9*.:-]+)$/.exec(entry);
    return match?.[1] === undefined ? [] : [match[1].toLowerCase()];
  });
}

interface DateWarning {
  readonly log: Log;
  readonly now: () => number;
  readonly file: string;
}

/** A server with an expired certificate still serves those who do not check, and the mend may be on its way. */
function warnOfDates(certificate: LoadedCertificate, { log, now, file }: DateWarning): void {
  const fault = dateFault(certificate, now());
  if (fault !== undefined) log.warn({ file, notAfter: certificate.notAfter }, `certificate ${fault}`);
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    const mend = /EACCES|EPERM/.test(messageOf(cause)) ? "give this user the right to read it" : "check the path";
    throw new CertificateError(`${file}: cannot be read (${messageOf(cause)}); ${mend}`, { cause });
  }
}

function firstLine(text: string): string {
  return text.split(/\r?\n/, 1)[0] ?? "";
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
