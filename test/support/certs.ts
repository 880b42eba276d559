/**
 * Certificates for tests: an authority and leaves with the names, key kinds, key forms and dates a test asks for.
 * Written as DER by hand on node:crypto, so that any date is possible and no program has to be started. Keys are made once per run.
 */
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from "node:crypto";
import { isIP } from "node:net";
import { addressBytes } from "./address-bytes.ts";

export type KeyKind = "rsa" | "ec" | "ec384" | "ed25519";

export interface LeafOptions {
  /** DNS names (`*.lab.test` too) and IP addresses. Default localhost, 127.0.0.1 and ::1. */
  names?: string[];
  kind?: KeyKind;
  /** PEM form of the key; default pkcs8. `pkcs1` is for rsa, `sec1` for ec. */
  keyForm?: "pkcs8" | "pkcs1" | "sec1";
  /** Encrypts the key. */
  passphrase?: string;
  notBefore?: Date;
  /** Default a year from now; a date in the past makes an expired certificate. */
  notAfter?: Date;
  /** For client certificates. */
  usage?: "server" | "client";
}

export interface Leaf {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface TestAuthority {
  readonly certPem: string;
  readonly keyPem: string;
  issue(options?: LeafOptions): Leaf;
}

const DAY_MS = 86_400_000;
const madeKeys = new Map<string, { publicKey: KeyObject; privateKey: KeyObject }>();

/** An authority of its own for each name; the same name gives the same authority within a run. */
export function testAuthority(name = "Test CA"): TestAuthority {
  const keys = keysFor(`authority ${name}`, "ec");
  const certPem = certificate({
    subject: name,
    issuer: name,
    publicKey: keys.publicKey,
    signer: keys.privateKey,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 3650 * DAY_MS),
    extensions: [
      extension("2.5.29.19", true, sequence(tlv(0x01, Buffer.from([0xff])))), // basicConstraints: CA
      extension("2.5.29.15", true, Buffer.from([0x03, 0x02, 0x01, 0x06])), // keyUsage: keyCertSign, cRLSign
    ],
  });
  return {
    certPem,
    keyPem: pem(keys.privateKey, "pkcs8"),
    issue(options = {}) {
      const kind = options.kind ?? "ec";
      const leafKeys = keysFor(`leaf ${kind}`, kind);
      const names = options.names ?? ["localhost", "127.0.0.1", "::1"];
      const usage = options.usage === "client" ? "1.3.6.1.5.5.7.3.2" : "1.3.6.1.5.5.7.3.1";
      const leaf = certificate({
        subject: names[0] ?? "leaf",
        issuer: name,
        publicKey: leafKeys.publicKey,
        signer: keys.privateKey,
        notBefore: options.notBefore ?? new Date(Date.now() - DAY_MS),
        notAfter: options.notAfter ?? new Date(Date.now() + 365 * DAY_MS),
        extensions: [
          extension("2.5.29.17", false, sequence(...names.map(alternativeName))),
          extension("2.5.29.37", false, sequence(oid(usage))),
        ],
      });
      return { certPem: leaf, keyPem: pem(leafKeys.privateKey, options.keyForm ?? "pkcs8", options.passphrase) };
    },
  };
}

/** RSA keys take a second to make, so one pair per kind serves the whole run. */
function keysFor(use: string, kind: KeyKind): { publicKey: KeyObject; privateKey: KeyObject } {
  const made = madeKeys.get(use) ?? generate(kind);
  madeKeys.set(use, made);
  return made;
}

function generate(kind: KeyKind): { publicKey: KeyObject; privateKey: KeyObject } {
  if (kind === "rsa") return generateKeyPairSync("rsa", { modulusLength: 2048 });
  if (kind === "ed25519") return generateKeyPairSync("ed25519");
  return generateKeyPairSync("ec", { namedCurve: kind === "ec384" ? "P-384" : "P-256" });
}

function pem(key: KeyObject, type: "pkcs8" | "pkcs1" | "sec1", passphrase?: string): string {
  const encryption = passphrase === undefined ? {} : { cipher: "aes-256-cbc", passphrase };
  return createPrivateKey(key.export({ type: "pkcs8", format: "pem" }))
    .export({ type, format: "pem", ...encryption })
    .toString();
}

interface CertificateParts {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  signer: KeyObject;
  notBefore: Date;
  notAfter: Date;
  extensions: Buffer[];
}

/** A version 3 certificate signed with ECDSA and SHA-256 (RFC 5280 section 4.1). */
function certificate(parts: CertificateParts): string {
  const algorithm = sequence(oid("1.2.840.10045.4.3.2"));
  const spki = parts.publicKey.export({ type: "spki", format: "der" });
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    distinguishedName(parts.issuer),
    sequence(time(parts.notBefore), time(parts.notAfter)),
    distinguishedName(parts.subject),
    spki,
    tlv(0xa3, sequence(...parts.extensions, keyIdentifier(spki))),
  );
  const signature = sign("sha256", body, parts.signer);
  const der = sequence(body, algorithm, tlv(0x03, Buffer.concat([Buffer.from([0]), signature])));
  return new X509Certificate(der).toString();
}

function distinguishedName(commonName: string): Buffer {
  return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(0x0c, Buffer.from(commonName)))));
}

function alternativeName(name: string): Buffer {
  return isIP(name) === 0 ? tlv(0x82, Buffer.from(name)) : tlv(0x87, addressBytes(name));
}

function keyIdentifier(spki: Buffer): Buffer {
  return extension("2.5.29.14", false, tlv(0x04, createHash("sha1").update(spki).digest()));
}

function extension(id: string, isCritical: boolean, value: Buffer): Buffer {
  const critical = isCritical ? [tlv(0x01, Buffer.from([0xff]))] : [];
  return sequence(oid(id), ...critical, tlv(0x04, value));
}

/** Two-digit years until 2049, as RFC 5280 section 4.1.2.5 wants. */
function time(date: Date): Buffer {
  const digits = `${date.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  return date.getUTCFullYear() < 2050 ? tlv(0x17, Buffer.from(digits.slice(2))) : tlv(0x18, Buffer.from(digits));
}

function sequence(...parts: Buffer[]): Buffer {
  return tlv(0x30, Buffer.concat(parts));
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 127];
    for (let left = arc >>> 7; left > 0; left >>>= 7) groups.unshift((left & 127) | 128);
    bytes.push(...groups);
  }
  return tlv(0x06, Buffer.from(bytes));
}

function tlv(tag: number, value: Buffer): Buffer {
  const size = value.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}
