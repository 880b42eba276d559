import { describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import tls from "node:tls";
import { CertificateError, dateFault, loadCertificate, watchCertificate } from "../../../src/front/certificate.ts";
import type { CertificateFiles } from "../../../src/front/certificate.ts";
import { createListener } from "../../../src/front/listener.ts";
import { createHttpServer } from "../../../src/http/adapter.ts";
import { createLog } from "../../../src/log.ts";
import { testAuthority } from "../../support/certs.ts";
import type { Leaf, LeafOptions } from "../../support/certs.ts";
import { head, trusted } from "../../support/http-server.ts";
import { openRaw } from "../../support/raw-http.ts";
import { createTempDir } from "../../support/temp-dir.ts";
import type { TempDir } from "../../support/temp-dir.ts";

const authority = testAuthority();
const DAY_MS = 86_400_000;

/** Writes a leaf with its chain and key into the folder. */
function place(dir: TempDir, leaf: Leaf, prefix = ""): CertificateFiles {
  const files = {
    certFile: dir.file(`${prefix}fullchain.pem`),
    keyFile: dir.file(`${prefix}key.pem`),
    passphraseFile: undefined,
  };
  writeFileSync(files.certFile, leaf.certPem + authority.certPem);
  writeFileSync(files.keyFile, leaf.keyPem, { mode: 0o600 });
  return files;
}

async function refusal(files: CertificateFiles): Promise<string> {
  const error = await loadCertificate(files).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(CertificateError);
  const message = error instanceof Error ? error.message : "";
  expect(message).not.toContain("PRIVATE KEY-----");
  return message.replaceAll(files.certFile, "CERT").replaceAll(files.keyFile, "KEY");
}

describe("loadCertificate()", () => {
  test.each<[string, LeafOptions, string]>([
    ["RSA, PKCS#1", { kind: "rsa", keyForm: "pkcs1" }, "BEGIN RSA PRIVATE KEY"],
    ["RSA, PKCS#8", { kind: "rsa" }, "BEGIN PRIVATE KEY"],
    ["RSA, PKCS#1, encrypted", { kind: "rsa", keyForm: "pkcs1", passphrase: "foobar" }, "Proc-Type: 4,ENCRYPTED"],
    ["RSA, PKCS#8, encrypted", { kind: "rsa", passphrase: "foobar" }, "BEGIN ENCRYPTED PRIVATE KEY"],
    ["EC P-256, SEC1", { kind: "ec", keyForm: "sec1" }, "BEGIN EC PRIVATE KEY"],
    ["EC P-256, PKCS#8", { kind: "ec" }, "BEGIN PRIVATE KEY"],
    ["EC P-256, SEC1, encrypted", { kind: "ec", keyForm: "sec1", passphrase: "foobar" }, "Proc-Type: 4,ENCRYPTED"],
    ["EC P-384, PKCS#8", { kind: "ec384" }, "BEGIN PRIVATE KEY"],
    ["Ed25519", { kind: "ed25519" }, "BEGIN PRIVATE KEY"],
  ])("[C27] loads %s and handshakes with it", async (_, options, form) => {
    await using dir = await createTempDir();
    const leaf = authority.issue({ names: ["localhost", "*.lab.test", "127.0.0.1"], ...options });
    expect(leaf.keyPem).toContain(form);
    const files = place(dir, leaf);
    writeFileSync(dir.file("passphrase"), "foobar\nand a second line\n");
    const passphraseFile = options.passphrase === undefined ? undefined : dir.file("passphrase");
    const certificate = await loadCertificate({ ...files, passphraseFile });
    expect(certificate.names).toEqual(["localhost", "*.lab.test", "127.0.0.1"]);
    expect(dateFault(certificate, Date.now())).toBeUndefined();
    await using server = await serve(() => certificate);
    expect(await fingerprintAt(server.port)).toBe(certificate.fingerprint);
  });

  test("sends the chain behind the leaf", async () => {
    await using dir = await createTempDir();
    const certificate = await loadCertificate(place(dir, authority.issue()));
    await using server = await serve(() => certificate);
    const client = tls.connect({ port: server.port, host: "127.0.0.1", rejectUnauthorized: false });
    await once(client, "secureConnect");
    const { issuerCertificate } = client.getPeerCertificate(true);
    expect(issuerCertificate.fingerprint256).toBe(new X509Certificate(authority.certPem).fingerprint256);
    client.destroy();
  });

  test("says what is wrong and how to mend it", async () => {
    await using dir = await createTempDir();
    const leaf = authority.issue();
    const files = place(dir, leaf);
    const other = place(dir, authority.issue({ kind: "rsa" }), "other-");
    const changed = (name: string, text: string): string => (writeFileSync(dir.file(name), text), dir.file(name));

    expect(await refusal({ ...files, certFile: other.certFile })).toBe(
      "CERT: the certificate does not belong to the key in KEY; give the key it was issued for",
    );
    expect(await refusal({ ...files, certFile: changed("swapped.pem", authority.certPem + leaf.certPem) })).toBe(
      "CERT: the certificate does not belong to the key in KEY; put the certificate of the key first in the chain",
    );
    expect(await refusal({ ...files, certFile: files.keyFile })).toContain("are certificate and key exchanged?");
    expect(await refusal({ ...files, keyFile: files.certFile })).toContain("are certificate and key exchanged?");
    expect(await refusal({ ...files, certFile: changed("empty.pem", "") })).toBe(
      "CERT: expected a PEM certificate, found none; give the PEM file",
    );
    const damaged = leaf.certPem + authority.certPem.replace(/^MI/m, "XX");
    expect(await refusal({ ...files, certFile: changed("damaged.pem", damaged) })).toStartWith(
      "CERT: certificate 2 of the chain cannot be read",
    );
    const cut = leaf.keyPem.replace(/^MI/m, "XX");
    expect(await refusal({ ...files, keyFile: changed("cut.pem", cut) })).toStartWith("KEY: the key cannot be read");
    expect(await refusal({ ...files, keyFile: dir.file("none.pem") })).toMatch(
      /^KEY: cannot be read .*; check the path$/,
    );
    expect(await refusal({ ...files, certFile: dir.path })).toMatch(/^CERT: cannot be read/);
  });

  test.each<LeafOptions>([{ passphrase: "foobar" }, { kind: "rsa", keyForm: "pkcs1", passphrase: "foobar" }])(
    "says that the passphrase is missing or wrong (%j)",
    async (options) => {
      await using dir = await createTempDir();
      const files = place(dir, authority.issue(options));
      expect(await refusal(files)).toBe(
        "KEY: the key is encrypted; give its passphrase with --tls-key-passphrase-file",
      );
      writeFileSync(dir.file("wrong"), "foo");
      expect(await refusal({ ...files, passphraseFile: dir.file("wrong") })).toBe(
        "KEY: the passphrase does not open the key; check the file",
      );
    },
  );
});

test("dateFault() tells expired from not yet valid", async () => {
  await using dir = await createTempDir();
  const [notBefore, notAfter] = [new Date("2026-01-01T00:00:00Z"), new Date("2026-02-01T00:00:00Z")];
  const certificate = await loadCertificate(place(dir, authority.issue({ notBefore, notAfter })));
  expect(dateFault(certificate, notBefore.getTime())).toBeUndefined();
  expect(dateFault(certificate, notAfter.getTime())).toBeUndefined();
  expect(dateFault(certificate, notBefore.getTime() - 1000)).toBe("valid only from 2026-01-01: check the clock");
  expect(dateFault(certificate, notAfter.getTime() + 1000)).toBe("expired on 2026-02-01: renew it");
});

/** What a renewal tool does to put `leaf` in force. */
const RENEWALS: [string, (dir: TempDir) => { files: CertificateFiles; renew(leaf: Leaf): void }][] = [
  [
    "in place, as acme.sh does",
    (dir) => {
      const files = place(dir, authority.issue());
      return { files, renew: (leaf) => void place(dir, leaf) };
    },
  ],
  [
    "by rename",
    (dir) => {
      const files = place(dir, authority.issue());
      return {
        files,
        renew(leaf) {
          const next = place(dir, leaf, "next-");
          renameSync(next.certFile, files.certFile);
          renameSync(next.keyFile, files.keyFile);
        },
      };
    },
  ],
  [
    "by switched symlinks into another folder, as certbot does",
    (dir) => {
      let version = 1;
      const live = (prefix: string): void => {
        for (const name of ["fullchain.pem", "key.pem"]) {
          rmSync(dir.file("live", name), { force: true });
          symlinkSync(`../archive/${prefix}${name}`, dir.file("live", name));
        }
      };
      for (const folder of ["live", "archive"]) mkdirSync(dir.file(folder));
      place(dir, authority.issue(), "archive/1-");
      live("1-");
      const files = {
        certFile: dir.file("live", "fullchain.pem"),
        keyFile: dir.file("live", "key.pem"),
        passphraseFile: undefined,
      };
      return {
        files,
        renew(leaf) {
          version += 1;
          place(dir, leaf, `archive/${version}-`);
          live(`${version}-`);
        },
      };
    },
  ],
  [
    "by a switched folder, as Kubernetes does",
    (dir) => {
      let version = 1;
      mkdirSync(dir.file("..1"));
      place(dir, authority.issue(), "..1/");
      symlinkSync("..1", dir.file("..data"));
      for (const name of ["fullchain.pem", "key.pem"]) symlinkSync(`..data/${name}`, dir.file(name));
      const files = { certFile: dir.file("fullchain.pem"), keyFile: dir.file("key.pem"), passphraseFile: undefined };
      return {
        files,
        renew(leaf) {
          version += 1;
          mkdirSync(dir.file(`..${version}`));
          place(dir, leaf, `..${version}/`);
          symlinkSync(`..${version}`, dir.file("..data_tmp"));
          renameSync(dir.file("..data_tmp"), dir.file("..data"));
        },
      };
    },
  ],
  [
    "in place behind a symlink to another folder",
    (dir) => {
      for (const folder of ["real", "etc"]) mkdirSync(dir.file(folder));
      place(dir, authority.issue(), "real/");
      for (const name of ["fullchain.pem", "key.pem"]) symlinkSync(`../real/${name}`, dir.file("etc", name));
      const files = {
        certFile: dir.file("etc", "fullchain.pem"),
        keyFile: dir.file("etc", "key.pem"),
        passphraseFile: undefined,
      };
      return { files, renew: (leaf) => void place(dir, leaf, "real/") };
    },
  ],
  [
    "in place in a folder that a symlink was switched to",
    (dir) => {
      let version = 0;
      const link = (): void => {
        version += 1;
        mkdirSync(dir.file(`v${version}`));
        symlinkSync(`v${version}`, dir.file("next"));
        renameSync(dir.file("next"), dir.file("current"));
      };
      link();
      const files = place(dir, authority.issue(), "current/");
      return {
        files,
        renew(leaf) {
          place(dir, leaf, version === 1 ? (link(), "current/") : "v2/");
        },
      };
    },
  ],
];

describe("watchCertificate()", () => {
  test.each(RENEWALS)("[T27] picks up a certificate that is replaced %s, twice", async (_, prepare) => {
    await using dir = await createTempDir();
    const { files, renew } = prepare(dir);
    const log = recorded();
    const certificate = await watchCertificate(files, { log: log.log, quietMs: 20 });
    await using server = await serve(() => certificate.current());
    for (const kind of ["rsa", "ec384"] as const) {
      const before = certificate.current().fingerprint;
      renew(authority.issue({ kind, names: ["localhost", `${kind}.test`] }));
      const line = await log.line("certificate replaced");
      expect(line["names"]).toEqual(["localhost", `${kind}.test`]);
      expect(certificate.current().fingerprint).not.toBe(before);
      expect(await fingerprintAt(server.port)).toBe(certificate.current().fingerprint);
    }
    certificate.close();
  });

  test.each<[string, (dir: TempDir, files: CertificateFiles) => void, string]>([
    [
      "is no certificate",
      (_, files) => writeFileSync(files.certFile, "oops"),
      "expected a PEM certificate, found none",
    ],
    [
      "does not fit the key",
      (_, files) => writeFileSync(files.certFile, authority.issue({ kind: "rsa" }).certPem),
      "does not belong to the key",
    ],
    ["is gone", (_, files) => rmSync(files.certFile), "cannot be read"],
    [
      "has expired",
      (dir) =>
        void place(
          dir,
          authority.issue({ notBefore: new Date(Date.now() - 9 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) }),
        ),
      "expired on",
    ],
  ])("[T27] keeps the old certificate when the new one %s, and says so", async (_, spoil, reason) => {
    await using dir = await createTempDir();
    const files = place(dir, authority.issue());
    const log = recorded();
    const certificate = await watchCertificate(files, { log: log.log, quietMs: 20 });
    await using server = await serve(() => certificate.current());
    const before = certificate.current().fingerprint;
    spoil(dir, files);
    const line = await log.line("new certificate refused, the old one stays");
    expect(line["reason"]).toContain(reason);
    expect(await fingerprintAt(server.port)).toBe(before);
    // The mend is picked up as well.
    place(dir, authority.issue({ names: ["localhost", "mended.test"] }));
    expect((await log.line("certificate replaced"))["names"]).toEqual(["localhost", "mended.test"]);
    expect(await fingerprintAt(server.port)).not.toBe(before);
    certificate.close();
  });

  test("[T27] reload() reads the files now, and never rejects", async () => {
    await using dir = await createTempDir();
    const files = place(dir, authority.issue());
    const log = recorded();
    const certificate = await watchCertificate(files, { log: log.log, quietMs: 60_000 });
    const before = certificate.current().fingerprint;
    place(dir, authority.issue({ kind: "rsa" }));
    await Promise.all([certificate.reload(), certificate.reload()]);
    expect(certificate.current().fingerprint).not.toBe(before);
    writeFileSync(files.keyFile, "oops");
    await certificate.reload();
    expect((await log.line("new certificate refused, the old one stays"))["reason"]).toContain(
      "expected a PEM private key",
    );
    certificate.close();
  });

  test("rejects when the first certificate is bad, and warns when it has expired", async () => {
    await using dir = await createTempDir();
    const log = recorded();
    const files = place(
      dir,
      authority.issue({ notBefore: new Date(Date.now() - 9 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) }),
    );
    const certificate = await watchCertificate(files, { log: log.log });
    await log.line((msg) => msg.startsWith("certificate expired on "));
    certificate.close();
    rmSync(files.keyFile);
    expect(watchCertificate(files, { log: log.log })).rejects.toBeInstanceOf(CertificateError);
  });

  test("[T27] a transfer that runs while the certificate is replaced is not touched", async () => {
    await using dir = await createTempDir();
    const files = place(dir, authority.issue());
    const log = recorded();
    const certificate = await watchCertificate(files, { log: log.log, quietMs: 20 });
    const release = Promise.withResolvers<void>();
    await using server = await serve(() => certificate.current(), release.promise);
    const client = await openRaw({ host: "127.0.0.1", port: server.port, tls: trusted() });
    client.send(head("GET /blob"));
    await client.readHead();
    expect((await client.read(1_000_000)).length).toBe(1_000_000);
    const old = certificate.current().fingerprint;
    place(dir, authority.issue({ kind: "ec384" }));
    await log.line("certificate replaced");
    expect(await fingerprintAt(server.port)).not.toBe(old);
    release.resolve();
    expect((await client.read(1_000_000)).length).toBe(1_000_000);
    // The connection itself goes on as well.
    client.send(head("GET /blob"));
    expect((await client.readAnswer()).body.length).toBe(2_000_000);
    client.end();
    certificate.close();
  });
});

/** A TLS listener; an answer is a megabyte, and a second one after `release`. */
async function serve(current: () => { secureContext: tls.SecureContext }, release: Promise<void> = Promise.resolve()) {
  const http = createHttpServer(
    {
      headersTimeoutMs: 5_000,
      keepAliveTimeoutMs: 5_000,
      maxHeaderBytes: 65_536,
      idleTimeoutMs: 5_000,
      bodyTimeoutMs: 5_000,
    },
    {
      async answer() {
        let pulls = 0;
        const body = new ReadableStream<Uint8Array>(
          {
            async pull(controller) {
              if (pulls++ > 0) await release;
              controller.enqueue(new Uint8Array(1_000_000));
              if (pulls === 2) controller.close();
            },
          },
          { highWaterMark: 0 },
        );
        return { status: 200, headers: [["Content-Length", "2000000"]], body };
      },
      newId: () => "0123456789abcdef",
      refused: () => undefined,
      finished: () => undefined,
    },
  );
  const listener = await createListener(
    { kind: "tcp", host: "127.0.0.1", port: 0 },
    { handshakeTimeoutMs: 5_000, maxHandshakes: 100 },
    { http, log: recorded().log, certificate: { current } },
  );
  return {
    port: listener.address.port ?? 0,
    async [Symbol.asyncDispose]() {
      await listener.close();
      await http.drain(0);
    },
  };
}

async function fingerprintAt(port: number): Promise<string> {
  const client = tls.connect({ ...trusted(), port, host: "127.0.0.1" });
  await once(client, "secureConnect");
  const { fingerprint256 } = client.getPeerCertificate();
  client.destroy();
  return fingerprint256;
}

type Line = Record<string, unknown>;

/** A log whose lines can be waited for, each once. */
function recorded() {
  const lines: Line[] = [];
  let wake: () => void = () => undefined;
  const destination = {
    write(text: string) {
      lines.push(JSON.parse(text));
      wake();
    },
  };
  return {
    log: createLog({ level: "info", format: "json" }, { destination }),
    async line(wanted: string | ((msg: string) => boolean)): Promise<Line> {
      for (;;) {
        const at = lines.findIndex(({ msg }) => (typeof wanted === "string" ? msg === wanted : wanted(String(msg))));
        const [found] = at < 0 ? [] : lines.splice(at, 1);
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}
