import { expect, test } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { createServer } from "node:tls";
import { connect } from "node:tls";
import type { AddressInfo } from "node:net";
import { testAuthority, type LeafOptions } from "../../support/certs.ts";

const forms: [LeafOptions, RegExp][] = [
  [{ kind: "rsa" }, /BEGIN PRIVATE KEY/],
  [{ kind: "rsa", keyForm: "pkcs1" }, /BEGIN RSA PRIVATE KEY/],
  [{ kind: "rsa", keyForm: "pkcs1", passphrase: "foobar" }, /Proc-Type: 4,ENCRYPTED/],
  [{ kind: "rsa", passphrase: "foobar" }, /BEGIN ENCRYPTED PRIVATE KEY/],
  [{ kind: "ec" }, /BEGIN PRIVATE KEY/],
  [{ kind: "ec", keyForm: "sec1" }, /BEGIN EC PRIVATE KEY/],
  [{ kind: "ec384", keyForm: "sec1", passphrase: "foobar" }, /Proc-Type: 4,ENCRYPTED/],
  [{ kind: "ed25519" }, /BEGIN PRIVATE KEY/],
  [{ kind: "ed25519", passphrase: "foobar" }, /BEGIN ENCRYPTED PRIVATE KEY/],
];

for (const [options, form] of forms) {
  test(`testAuthority() issues ${JSON.stringify(options)}`, async () => {
    const authority = testAuthority();
    const { certPem, keyPem } = authority.issue(options);
    expect(keyPem).toMatch(form);
    const certificate = new X509Certificate(certPem);
    const key = createPrivateKey({ key: keyPem, ...(options.passphrase && { passphrase: options.passphrase }) });
    expect(certificate.checkPrivateKey(key)).toBe(true);
    expect(certificate.verify(new X509Certificate(authority.certPem).publicKey)).toBe(true);
    expect(await handshake(certPem, keyPem, options.passphrase)).toBe("authorized");
  });
}

test("testAuthority() issues the names and dates asked for", () => {
  const { certPem } = testAuthority().issue({
    names: ["a.lab.test", "*.b.lab.test", "10.0.0.1", "2001:db8::1"],
    notBefore: new Date("2020-01-01T00:00:00Z"),
    notAfter: new Date("2021-06-01T12:00:00Z"),
  });
  const certificate = new X509Certificate(certPem);
  expect(certificate.subjectAltName).toBe(
    "DNS:a.lab.test, DNS:*.b.lab.test, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1",
  );
  expect(new Date(certificate.validTo)).toEqual(new Date("2021-06-01T12:00:00Z"));
  expect(testAuthority("Other CA").certPem).not.toBe(testAuthority().certPem);
});

async function handshake(cert: string, key: string, passphrase: string | undefined): Promise<string> {
  const server = createServer({ cert, key, ...(passphrase !== undefined && { passphrase }) });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const outcome = await new Promise<string>((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", servername: "localhost", ca: testAuthority().certPem }, () => {
      resolve(socket.authorized ? "authorized" : String(socket.authorizationError));
      socket.destroy();
    });
    socket.on("error", (error) => resolve(error.message));
  });
  server.close();
  return outcome;
}
