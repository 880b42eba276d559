import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createLoginLimit } from "../../../src/proxy/login-limit.ts";
import { createPasswords } from "../../../src/proxy/passwords.ts";
import { type AccessRule, type Right, type UserLists, createUsers, rightToAsk } from "../../../src/proxy/users.ts";
import { type Registry, createPlainRegistry, createRegistryMap } from "../../../src/registry/registry.ts";

function registry(key: string, host: string, more: Partial<Registry> = {}): Registry {
  const upstream = { origin: `https://${host}`, basePath: "", namePrefix: "" };
  return { ...createPlainRegistry(key, [upstream]), hosts: [host], ...more };
}

const hub = registry("hub", "docker.io", { isDockerHub: true });
const quay = registry("quay", "quay.io");
const map = createRegistryMap([hub, quay], hub);
const fingerprint = (...parts: string[]): string => JSON.stringify(parts);

function createWith(lists: Partial<UserLists>) {
  const state: { lists: UserLists } = { lists: { hashes: undefined, rules: undefined, ...lists } };
  const users = createUsers({
    lists: () => state.lists,
    map: () => map,
    passwords: createPasswords({
      fingerprint,
      verify: async (password, hash) => new TextDecoder().decode(password) === hash,
    }),
    limit: createLoginLimit(() => 0),
    fingerprint,
  });
  return { users, change: (next: Partial<UserLists>) => void (state.lists = { ...state.lists, ...next }) };
}

const in_ = (name: string, pattern: string) => ({ kind: "registry" as const, registry: name, pattern });
const rule = (users: string[], repositories: AccessRule["repositories"], rights: Right[]): AccessRule => ({
  users,
  repositories,
  rights,
});

describe("Users.may() without rules", () => {
  test("lets a user pull everything, and nobody anything else", () => {
    const { users } = createWith({});
    const where = { registry: quay, repository: "org/app" };
    expect((["pull", "push", "delete"] as const).map((right) => users.certified("a").may(right, where))).toEqual([
      true,
      false,
      false,
    ]);
    expect([users.anonymousMay("pull", where), users.anonymousMayAnything()]).toEqual([false, false]);
  });
});

describe("Users.may() with a rule", () => {
  test.each([
    ["by key", in_("quay", "org/**"), quay, "org/app", true],
    ["by host", in_("quay.io", "org/**"), quay, "org/app", true],
    ["of another registry", in_("hub", "org/**"), quay, "org/app", false],
    ["of a registry the map lacks", in_("gone.test", "**"), quay, "org/app", false],
    ["by another name of Docker Hub", in_("index.docker.io", "org/*"), hub, "org/app", true],
    ["for a short name of Docker Hub", in_("docker.io", "nginx"), hub, "library/nginx", true],
    ["for short names of Docker Hub with a star", in_("docker.io", "ngin*"), hub, "library/nginx", true],
    ["for a short name elsewhere", in_("quay", "nginx"), quay, "library/nginx", false],
    ["for all of Docker Hub", in_("docker.io", "**"), hub, "org/app", true],
    ["for all", { kind: "all" as const }, quay, "org/app", true],
  ])("%s", (_, pattern, at, repository, expected) => {
    const { users } = createWith({ rules: [rule(["a"], [pattern], ["pull"])] });
    expect(users.certified("a").may("pull", { registry: at, repository })).toBe(expected);
    expect(users.certified("a").may("push", { registry: at, repository })).toBe(false);
    expect(users.certified("b").may("pull", { registry: at, repository })).toBe(false);
  });

  test("is the union of what matches: another rule never takes anything away", () => {
    const name = fc.constantFrom("a", "b", "*", "anonymous");
    const pattern = fc.constantFrom(
      in_("quay", "org/*"),
      in_("quay.io", "org/app"),
      in_("hub", "**"),
      in_("gone", "**"),
      { kind: "all" as const },
    );
    const right = fc.constantFrom<Right>("pull", "push", "delete");
    const anyRule = fc
      .tuple(
        fc.array(name, { minLength: 1, maxLength: 2 }),
        fc.array(pattern, { minLength: 1, maxLength: 2 }),
        fc.array(right, { minLength: 1, maxLength: 2 }),
      )
      .map(([who, where, what]) => rule(who, where, what));
    fc.assert(
      fc.property(
        fc.array(anyRule, { maxLength: 4 }),
        anyRule,
        right,
        fc.constantFrom(hub, quay),
        (rules, more, what, at) => {
          const where = { registry: at, repository: "org/app" };
          const { users, change } = createWith({ rules });
          const asks = () => [
            users.certified("a").may(what, where),
            users.certified("anonymous").may(what, where),
            users.anonymousMay(what, where),
          ];
          const before = asks();
          change({ rules: [...rules, more] });
          expect(asks().every((may, i) => may || before[i] === false)).toBe(true);
          const alone = rules.map((one) => {
            change({ rules: [one] });
            return asks();
          });
          expect(before).toEqual([0, 1, 2].map((i) => alone.some((answers) => answers[i] === true)));
        },
      ),
    );
  });

  test("of anonymous is for nobody with that name", () => {
    const { users } = createWith({ rules: [rule(["anonymous"], [{ kind: "all" }], ["pull"])] });
    const where = { registry: quay, repository: "org/app" };
    expect([users.certified("anonymous").may("pull", where), users.anonymousMay("pull", where)]).toEqual([false, true]);
  });
});

describe("Users.logIn()", () => {
  const hashes = new Map([["alice", "wonder"]]);

  test("knows a user by the password, and says the same of a wrong one and of a name that is not there", async () => {
    const { users } = createWith({ hashes });
    expect((await users.logIn({ username: "alice", password: "wonder" }, "192.0.2.1")).name).toBe("alice");
    const failures = [
      { username: "alice", password: "x" },
      { username: "nobody", password: "wonder" }, // fits the hash it is checked against
    ].map((login) => users.logIn(login, "192.0.2.1").catch((error: unknown) => String(error)));
    expect(new Set(await Promise.all(failures))).toEqual(new Set(["RegistryError: wrong user name or password"]));
  });

  test("knows nobody while the file is empty", async () => {
    const { users } = createWith({ hashes: new Map() });
    const failure = users
      .logIn({ username: "a", password: "" }, "192.0.2.1")
      .catch(({ code }: { code: string }) => code);
    expect(await failure).toBe("UNAUTHORIZED");
  });

  test("a stamp holds until the hash changes or the user goes", () => {
    const { users, change } = createWith({ hashes });
    const stamp = users.stampOf("alice") ?? "";
    expect(users.stamped("alice", stamp)?.name).toBe("alice");
    expect(users.stamped("bob", stamp)).toBeUndefined();
    change({ hashes: new Map([["alice", "other"]]) });
    expect(users.stamped("alice", stamp)).toBeUndefined();
    change({ hashes: undefined });
    expect([users.stampOf("alice"), users.stamped("alice", stamp), users.havePasswords]).toEqual([
      undefined,
      undefined,
      false,
    ]);
  });
});

test.each([
  ["GET", "manifest", "pull"],
  ["HEAD", "blob", "pull"],
  ["PUT", "manifest", "push"],
  ["DELETE", "manifest", "delete"],
  ["POST", "upload", "push"],
  ["GET", "upload", "push"],
  ["DELETE", "upload", "push"],
] as const)("rightToAsk() of %s %s is %s", (method, kind, right) => expect(rightToAsk(method, { kind })).toBe(right));
