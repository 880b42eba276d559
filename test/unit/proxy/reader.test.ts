/** In whose name content is asked for and remembered, where that is a configured credential. */
import { expect, test } from "bun:test";
import { createAccess } from "../../../src/proxy/access.ts";
import { createSealer } from "../../../src/proxy/seal.ts";
import type { ConfiguredCredential } from "../../../src/registry/registry.ts";
import { createCredentials } from "../../../src/upstream/credentials.ts";
import { registryAt, testClient } from "../upstream/fixture.ts";

const ORIGIN = "https://reg.test";

function bench(credentials: ConfiguredCredential[]) {
  const clock = { nowMs: 0 };
  let runs = 0;
  const source = createCredentials({
    run: async () => ({ exitCode: 0, output: JSON.stringify({ username: "u", password: `p${runs++}`, expiresIn: 1 }) }),
    now: () => clock.nowMs,
  });
  const access = createAccess(
    { sharePrivate: true, pseudonym: "layover-test" },
    {
      upstream: testClient(),
      credentialOf: source.current,
      fingerprint: createSealer(new Uint8Array(32)).fingerprint,
    },
  );
  const registry = registryAt(ORIGIN, { login: "proxy", credentials });
  const readerOf = (repository: string) => {
    const reader = access.readerOf({
      client: { kind: "none" },
      route: { registry, repository, requested: repository, pathPrefix: "", namespace: undefined },
    });
    if (reader.kind !== "holder") throw new Error("expected a holder");
    return reader;
  };
  return { readerOf, clock };
}

test("createAccess() knows the holder of a program's credential again, whatever its secret is now", async () => {
  const source = { kind: "exec", argv: ["mint"], timeoutMs: 1000, env: [] } as const;
  const { readerOf, clock } = bench([{ origin: ORIGIN, repositories: [], source }]);
  const [one, other] = [readerOf("a/b"), readerOf("a/b")];
  const old = await one.credential();
  clock.nowMs += 1000;
  expect((await other.credential()).password).not.toBe(old.password);
  expect(one.holder).toBe(other.holder);
});

test("createAccess() tells holders with different accounts apart: the longest pattern chooses", async () => {
  const account = (username: string, repositories: string[]): ConfiguredCredential => ({
    origin: ORIGIN,
    repositories,
    source: { kind: "password", username, password: "p" },
  });
  const { readerOf } = bench([account("all", []), account("org", ["org/**"]), account("one", ["x", "org/app"])]);
  const names = ["org/app", "org/other", "else"].map(async (name) => (await readerOf(name).credential()).username);
  expect(await Promise.all(names)).toEqual(["one", "org", "all"]);
  expect(new Set(["org/app", "org/other", "else"].map((name) => readerOf(name).holder)).size).toBe(3);
});
