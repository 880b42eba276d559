import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseHtpasswd } from "../../../src/config/htpasswd.ts";
import type { Problem } from "../../../src/config/problem.ts";

const HASH = "$2y$05$abcdefghijklmnopqrstuuVWXYZabcdefghijklmnopqrstuvwxy.";

function parse(text: string) {
  const problems: Problem[] = [];
  const users = Object.fromEntries(parseHtpasswd("users", text, problems));
  return { users, problems: problems.map(({ from, what }) => `${from}: ${what}`) };
}

describe("parseHtpasswd() reads", () => {
  test.each([
    ["nothing", "", {}],
    ["one user", `alice:${HASH}\n`, { alice: HASH }],
    [
      "the other kinds of bcrypt",
      `a:${HASH.replace("y", "a")}\nb:${HASH.replace("y", "b")}`,
      { a: HASH.replace("y", "a"), b: HASH.replace("y", "b") },
    ],
    ["lines that end as on Windows, empty ones and comments", `# team\r\n\r\nalice:${HASH}\r\n`, { alice: HASH }],
    ["names with spaces and umlauts", `Jörg Müller:${HASH}`, { "Jörg Müller": HASH }],
    ["what stands behind a second colon as a comment", `alice:${HASH}:since 2026`, { alice: HASH }],
    [
      "names of properties as names",
      `__proto__:${HASH}\nconstructor:${HASH}`,
      { ["__proto__"]: HASH, constructor: HASH },
    ],
  ])("%s", (_, text, users) => {
    const read = new Map(parseHtpasswd("users", text, []));
    expect([...read]).toEqual(Object.entries(users));
  });
});

describe("parseHtpasswd() refuses", () => {
  test.each([
    ["alice", "line 1: expected name:hash"],
    [`:${HASH}`, "line 1: expected a user name"],
    [`a\u0007:${HASH}`, "line 1: expected a user name"],
    [`${"a".repeat(257)}:${HASH}`, "line 1: expected a user name"],
    [`a:${HASH}\na:${HASH}`, 'line 2: user "a" stands in the file twice'],
    [`anonymous:${HASH}`, 'user "anonymous": the name means something else'],
    [`*:${HASH}`, 'user "*": the name means something else'],
    [
      "bob:secret",
      'user "bob": expected a bcrypt hash, got a crypt one or plain text; set the password again with htpasswd -B',
    ],
    ["bob:$apr1$x$y", "an MD5 one"],
    ["bob:{SHA}x", "a SHA-1 one"],
    ["bob:$6$x$y", "a SHA-2 crypt one"],
    ["bob:$argon2id$v=19", "an argon2 one"],
    ["bob:", "got nothing"],
    [`bob:${HASH.slice(0, -1)}`, "cut short"],
    [`bob:${HASH.replace("05", "03")}`, "not known"],
    [`bob:${HASH.replace("05", "16")}`, "a cost of at most 15, got 16"],
  ])("%j: %s", (text, problem) => {
    const { problems } = parse(text);
    expect(problems.join("\n")).toContain(problem);
  });

  test("every bad line at once, and keeps the good ones", () => {
    const { users, problems } = parse(`a:x\nb:${HASH}\nc:y`);
    expect([Object.keys(users), problems.length]).toEqual([["b"], 2]);
  });

  test("a file that is far too long", () => {
    expect(parse("x".repeat(4 * 1024 * 1024 + 1)).problems).toHaveLength(1);
  });
});

test("parseHtpasswd() never tells a hash or password, whatever the file holds", () => {
  const secret = fc.stringMatching(/^[A-Za-z0-9./$]{8,60}$/);
  fc.assert(
    fc.property(fc.array(secret, { minLength: 1, maxLength: 5 }), (secrets) => {
      const { problems } = parse(secrets.map((one, i) => `user${i}:${one}`).join("\n"));
      return secrets.every((one) => !problems.join("\n").includes(one));
    }),
  );
});
