import { expect, test } from "bun:test";
import { configuredCredential, configuredCredentials } from "../../../src/proxy/configured-credential.ts";
import { createPlainRegistry } from "../../../src/registry/registry.ts";

const UPSTREAM = { origin: "https://hub.test", basePath: "", namePrefix: "" };

/** Each by its name and its patterns. */
function registryWith(...credentials: [username: string, ...repositories: string[]][]) {
  const configured = credentials.map(([username, ...repositories]) => ({
    origin: UPSTREAM.origin,
    repositories,
    source: { kind: "password" as const, username, password: "secret" },
  }));
  return { ...createPlainRegistry("hub", [UPSTREAM]), credentials: configured };
}

test.each([
  ["org/app", ["org", "ci", "lab"]],
  ["org/deep/app", ["deep", "org", "ci", "lab"]],
  ["library/nginx", ["ci", "lab"]],
])(
  "[R206] configuredCredentials() of %s are those that fit, the longest pattern first, equals in the map's order",
  (repository, expected) => {
    const registry = registryWith(
      ["ci"],
      ["lab"],
      ["org", "org/**"],
      ["deep", "org/deep/**", "x/**"],
      ["other", "y/**"],
    );
    const names = configuredCredentials(registry, repository).map(({ source }) =>
      "username" in source ? source.username : undefined,
    );
    expect(names).toEqual(expected);
  },
);

test("configuredCredential() is the first of them, or none", () => {
  const registry = registryWith(["lab", "org/**"]);
  expect(configuredCredential(registry, "org/app")?.repositories).toEqual(["org/**"]);
  expect(configuredCredential(registry, "library/nginx")).toBeUndefined();
});
