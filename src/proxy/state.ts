/**
 * The few things that must survive a restart without a cache: the key that seals tokens and our pseudonym in `Via`.
 * Both are made once and kept 0600 in the state directory. Where that cannot be written the process goes on with values
 * of its own, and says so: clients then log in again after a restart, and nothing else is lost.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Log } from "../log.ts";

/** In the state directory. Who has it can make tokens. */
export const TOKEN_KEY_FILE = "token.key";

export interface State {
  /** 32 bytes. */
  readonly tokenKey: Uint8Array;
  /** Name we put into `Via`, random so that two Layovers in a row are told apart (protocol R147). */
  readonly pseudonym: string;
}

export async function openState(directory: string, log: Log): Promise<State> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return {
      tokenKey: Buffer.from(await keep(path.join(directory, TOKEN_KEY_FILE), 32), "hex"),
      pseudonym: `layover-${await keep(path.join(directory, "pseudonym"), 8)}`,
    };
  } catch (error) {
    log.warn(
      { directory, reason: error instanceof Error ? error.message : String(error) },
      "state directory is not usable: logins end with this process; choose another --state-dir or make it writable",
    );
    return { tokenKey: randomBytes(32), pseudonym: `layover-${randomBytes(8).toString("hex")}` };
  }
}

/** The hex text in `file`; made of `bytes` random bytes when there is none. Of two processes that start at once, one wins. */
async function keep(file: string, bytes: number): Promise<string> {
  const text = (await readIfThere(file)) ?? (await createOnce(file, randomBytes(bytes).toString("hex")));
  if (text.length === bytes * 2 && /^[0-9a-f]+$/.test(text)) return text;
  throw new Error(`${file}: expected ${bytes * 2} hex digits, got something else; delete it to make a new one`);
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, "utf8")).trim();
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

async function createOnce(file: string, text: string): Promise<string> {
  const fresh = `${file}.${process.pid}.${randomBytes(4).toString("hex")}`;
  await writeFile(fresh, text, { mode: 0o600, flag: "wx" });
  try {
    await link(fresh, file); // atomic, and refuses to replace
    return text;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return (await readFile(file, "utf8")).trim();
    throw error;
  } finally {
    await rm(fresh, { force: true });
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
