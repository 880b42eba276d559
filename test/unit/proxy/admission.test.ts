import { expect, test } from "bun:test";
import { createGate } from "../../../src/proxy/admission.ts";
import { createOriginReader } from "../../../src/proxy/origin.ts";
import type { Users } from "../../../src/proxy/users.ts";
import { exchangeWith } from "../../support/exchange.ts";

const originOf = createOriginReader({
  publicUrl: undefined,
  domainSuffix: undefined,
  trustedProxies: ["192.0.2.0/24", "unix"],
  forceHttp: false,
});

interface Given {
  peer: string;
  forwardedFor?: string;
  certificate?: string;
  passwords?: boolean;
  anonymousRule?: boolean;
}

function kindOf({ peer, forwardedFor, certificate, passwords = false, anonymousRule = false }: Given): string {
  const users: Users = {
    havePasswords: passwords,
    logIn: () => Promise.reject(new Error("not asked")),
    certified: (name) => ({ name, may: () => true }),
    stampOf: () => undefined,
    stamped: () => undefined,
    anonymousMay: () => anonymousRule,
    anonymousMayAnything: () => anonymousRule,
  };
  const gate = createGate({ allowFrom: ["10.0.0.0/8", "2001:db8::/32", "unix"] }, { users, originOf });
  const exchange = {
    ...exchangeWith({ peer, headers: forwardedFor === undefined ? {} : { "x-forwarded-for": forwardedFor } }),
    certificateUser: () => certificate,
  };
  const admission = gate.admit(exchange, originOf(exchange));
  return admission.kind === "login" ? `login by ${admission.by}` : admission.kind;
}

test.each<[Given, string]>([
  [{ peer: "10.1.2.3" }, "open"],
  [{ peer: "10.1.2.3", passwords: true }, "open"],
  [{ peer: "2001:db8::1" }, "open"],
  [{ peer: "unix" }, "open"],
  [{ peer: "203.0.113.1" }, "refused"],
  [{ peer: "unknown" }, "refused"],
  [{ peer: "203.0.113.1", passwords: true }, "login by password"],
  [{ peer: "203.0.113.1", anonymousRule: true }, "login by none"],
  [{ peer: "203.0.113.1", passwords: true, anonymousRule: true }, "login by password"],
  [{ peer: "203.0.113.1", certificate: "alice" }, "user"],
  [{ peer: "10.1.2.3", certificate: "alice" }, "user"],
  // The address counts that our proxies tell, and no other.
  [{ peer: "192.0.2.1", forwardedFor: "10.1.2.3" }, "open"],
  [{ peer: "192.0.2.1", forwardedFor: "10.1.2.3, 203.0.113.1" }, "refused"],
  [{ peer: "203.0.113.1", forwardedFor: "10.1.2.3" }, "refused"],
  [{ peer: "unix", forwardedFor: "203.0.113.1" }, "refused"],
  // A proxy's certificate is its own.
  [{ peer: "192.0.2.1", forwardedFor: "203.0.113.1", certificate: "proxy" }, "refused"],
  [{ peer: "192.0.2.1", certificate: "proxy" }, "user"],
])("createGate() admits %j as %s", (given, kind) => expect(kindOf(given)).toBe(kind));
