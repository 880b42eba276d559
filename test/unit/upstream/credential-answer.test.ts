import { describe, expect, test } from "bun:test";
import { parseAnswer } from "../../../src/upstream/credential-answer.ts";

const NOW = Date.parse("2026-01-01T00:00:00Z");
const reading = { username: undefined, nowMs: NOW };

describe("parseAnswer()", () => {
  test.each([
    [
      { username: "AWS", password: "p" },
      { username: "AWS", password: "p", expiresAtMs: undefined },
    ],
    [
      { username: "u", token: "t", expiresIn: 60 },
      { username: "u", password: "t", expiresAtMs: NOW + 60_000 },
    ],
    [{ token: "refresh" }, { username: "<token>", password: "refresh", expiresAtMs: undefined }],
    [
      { ServerURL: "https://x", Username: "u", Secret: "s:s" },
      { username: "u", password: "s:s" },
    ],
    [
      { Username: "<token>", Secret: "refresh" },
      { username: "<token>", password: "refresh" },
    ],
    [{ username: "u", password: "p", expiresAt: "2026-01-01T01:00:00Z" }, { expiresAtMs: NOW + 3_600_000 }],
    [{ username: "u", password: "p", expiresAt: "2026-01-01T01:00:00.5+01:00" }, { expiresAtMs: NOW + 500 }],
    [{ username: "u", password: "p", expiresIn: 0.5 }, { expiresAtMs: NOW + 500 }],
  ])("[R99] reads %j", (answer, secret) => {
    expect(parseAnswer(`\n${JSON.stringify(answer)}\n`, reading)).toMatchObject(secret);
  });

  test("takes a bare password where the user name is configured", () => {
    const named = { ...reading, username: "AWS" };
    expect(parseAnswer("eyJwYXlsb2FkIjoi\n", named)).toEqual({
      username: "AWS",
      password: "eyJwYXlsb2FkIjoi",
      expiresAtMs: undefined,
    });
    expect(parseAnswer("12345", named).password).toBe("12345");
    expect(parseAnswer('{"token": "t", "expiresIn": 9}', named)).toMatchObject({ username: "AWS", password: "t" });
    expect(() => parseAnswer("two\nlines", named)).toThrow("of one line");
    expect(() => parseAnswer("", named)).toThrow("of one line");
  });

  test.each([
    ["", "expected JSON with username and password, or a token"],
    ["hunter2", "expected JSON"],
    ["[]", "expected a password"],
    ["null", "expected JSON"],
    ['{"username": "u"}', "expected a password or token of one line"],
    ['{"username": "u", "password": ""}', "expected a password or token of one line"],
    ['{"username": "u", "password": 5}', "expected a password or token of one line"],
    ['{"username": "u", "password": "a\\nhunter2"}', "expected a password or token of one line"],
    ['{"password": "hunter2"}', "expected a user name without colon"],
    ['{"username": "a:b", "password": "hunter2"}', "expected a user name without colon"],
    ['{"username": "u", "password": "hunter2", "expiresIn": "60"}', "expected expiresIn as a number"],
    ['{"username": "u", "password": "hunter2", "expiresIn": 0}', "expected expiresIn as a number"],
    ['{"username": "u", "password": "hunter2", "expiresAt": 1767225600}', "expected expiresAt as a moment"],
    ['{"username": "u", "password": "hunter2", "expiresAt": "tomorrow"}', "expected expiresAt as a moment"],
    ['{"username": "u", "password": "hunter2", "expiresAt": "2025-12-31T00:00:00Z"}', "that still holds"],
  ])("[R248] refuses %s without quoting it", (output, why) => {
    const error = (() => {
      try {
        return parseAnswer(output, reading);
      } catch (caught) {
        return caught;
      }
    })();
    expect(String(error)).toContain(why);
    expect(String(error)).not.toContain("hunter2");
  });
});
