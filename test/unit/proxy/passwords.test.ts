import { describe, expect, test } from "bun:test";
import { createPasswords } from "../../../src/proxy/passwords.ts";

const fingerprint = (...parts: string[]): string => JSON.stringify(parts);
const attempt = { address: "192.0.2.1", name: "alice", password: "wonder", hash: "wonder", instead: "other" };

/** Checks that wait until the test lets them go; a hash is its password. */
function createHeld() {
  const held: { hash: string; go: () => void }[] = [];
  const passwords = createPasswords({
    fingerprint,
    async verify(password, hash) {
      await new Promise<void>((resolve) => void held.push({ hash, go: resolve }));
      return new TextDecoder().decode(password) === hash;
    },
  });
  const next = async (): Promise<void> => {
    while (held.length === 0) await Promise.resolve();
    held.shift()?.go();
  };
  return { passwords, held, next };
}

describe("createPasswords()", () => {
  test("checks a right password once, however many send it, and a changed hash anew", async () => {
    const { passwords, held, next } = createHeld();
    const all = Promise.all(Array.from({ length: 30 }, () => passwords.fits(attempt)));
    await next();
    expect(new Set(await all)).toEqual(new Set([true]));
    expect(await passwords.fits(attempt)).toBe(true);
    expect(held).toEqual([]);
    const changed = passwords.fits({ ...attempt, hash: "else" });
    await next();
    expect(await changed).toBe(false);
  });

  test("checks a name that is not known against somebody's hash, and is false even if that fits", async () => {
    const { passwords, held, next } = createHeld();
    const answer = passwords.fits({ ...attempt, hash: undefined, instead: "wonder" });
    while (held.length === 0) await Promise.resolve();
    expect(held[0]?.hash).toBe("wonder");
    await next();
    expect(await answer).toBe(false);
  });

  test("runs two at a time, lets eight of an address wait, and serves others meanwhile", async () => {
    const { passwords, held, next } = createHeld();
    const wrong = (i: number, address = "192.0.2.1") => passwords.fits({ ...attempt, address, password: `no${i}` });
    const waiting = Array.from({ length: 8 }, (_, i) => wrong(i));
    await Promise.resolve();
    expect(held).toHaveLength(2);
    expect(await wrong(9).catch((error: unknown) => error)).toMatchObject({ code: "TOOMANYREQUESTS" });
    const other = wrong(10, "192.0.2.2");
    for (let i = 0; i < 9; i += 1) await next();
    expect(new Set(await Promise.all([...waiting, other]))).toEqual(new Set([false]));
    const again = wrong(11);
    await next();
    expect(await again).toBe(false);
  });

  test("lets sixty-four wait altogether", async () => {
    const { passwords, next } = createHeld();
    const all = Array.from({ length: 70 }, (_, i) =>
      passwords.fits({ ...attempt, address: `192.0.2.${i}`, password: `no${i}` }).catch(() => "refused" as const),
    );
    for (let i = 0; i < 66; i += 1) await next();
    expect((await Promise.all(all)).filter((answer) => answer === "refused")).toHaveLength(4);
  });

  test("goes on after a check that failed", async () => {
    let count = 0;
    const passwords = createPasswords({
      fingerprint,
      verify: () => (count++ < 3 ? Promise.reject(new Error("unreadable")) : Promise.resolve(true)),
    });
    for (let i = 0; i < 3; i += 1) expect(await passwords.fits(attempt).catch(() => "failed")).toBe("failed");
    expect(await passwords.fits(attempt)).toBe(true);
  });

  test.each(["$2a$", "$2b$", "$2y$"])("reads %s hashes as htpasswd makes them, cut at 72 bytes", async (kind) => {
    const passwords = createPasswords({ fingerprint });
    const long = "pä".repeat(40);
    const cut = new TextEncoder().encode(long).subarray(0, 72);
    const hash = (await Bun.password.hash(cut, { algorithm: "bcrypt", cost: 4 })).replace("$2b$", kind);
    const of = (password: string) => passwords.fits({ ...attempt, password, hash, instead: hash });
    expect(await of(long)).toBe(true);
    expect(await of(`${long}more`)).toBe(true);
    expect([await of("x"), await of("")]).toEqual([false, false]);
  });
});
