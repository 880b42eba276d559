/**
 * The shape of one credential of registrymap.json: for which repositories, and where the secret comes from. What belongs
 * together is checked here; files and variables are read by `map-secrets`.
 */
import { isAbsolute } from "node:path";
import { z } from "zod";
import { FILE, PATTERNS, UPSTREAM, textBy } from "./map-fields.ts";
import { formatTime, parseTime, quoted } from "./units.ts";

/** How long a program may take that is not told otherwise: a request to a cloud's token server, and some. */
export const PROGRAM_TIMEOUT_MS = 10_000;
/** A request waits for it within the 25 s that a client waits for its header block. */
const MAX_PROGRAM_TIMEOUT_MS = 20_000;
/** Far more than any program needs. */
const MAX_ARGUMENTS = 100;
const MAX_VARIABLES = 100;

const VARIABLE = textBy(parseVariable);
const PASSWORDS = ["password", "passwordFile", "passwordEnv"] as const;
const SOURCES = [...PASSWORDS, "identityTokenFile", "dockerConfig", "exec"] as const;

export const CREDENTIAL = z
  .strictObject({
    repositories: PATTERNS,
    upstream: UPSTREAM.optional(),
    username: textBy(parseUsername).optional(),
    password: z.string().min(1).optional(),
    passwordFile: FILE.optional(),
    passwordEnv: VARIABLE.optional(),
    identityTokenFile: FILE.optional(),
    dockerConfig: FILE.optional(),
    exec: z.tuple([textBy(parseProgram)], z.string()).optional(),
    timeout: textBy(parseTimeout).optional(),
    env: z.array(VARIABLE).max(MAX_VARIABLES).optional(),
  })
  .superRefine((entry, context) => {
    const say = (message: string) => context.addIssue({ code: "custom", message });
    const [source, ...others] = SOURCES.filter((name) => entry[name] !== undefined);
    if (source === undefined || others.length > 0) return say(`expected one of ${SOURCES.join(", ")}`);
    const isPassword = PASSWORDS.some((name) => name === source);
    if (isPassword && entry.username === undefined) say(`expected a username beside ${source}`);
    if (!isPassword && source !== "exec" && entry.username !== undefined) say(`expected no username beside ${source}`);
    const runsPrograms = source === "exec" || source === "dockerConfig";
    if (!runsPrograms && (entry.timeout !== undefined || entry.env !== undefined))
      say(`expected no timeout and env beside ${source}: they are for programs`);
    if ((entry.exec?.length ?? 0) > MAX_ARGUMENTS) say(`expected at most ${MAX_ARGUMENTS} arguments of exec`);
  });

/** A colon would end the name in Basic credentials (RFC 7617 section 2). */
function parseUsername(text: string): string {
  if (text === "" || /[:\p{Cc}]/u.test(text))
    throw new Error("expected a user name without colon and control characters");
  return text;
}

function parseVariable(text: string): string {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(text)) throw new Error("expected the name of an environment variable");
  return text;
}

/** Found in PATH, or absolute: what a relative path means would depend on the folder of the start. */
function parseProgram(text: string): string {
  if (text !== "" && !text.includes("\0") && (isAbsolute(text) || !text.includes("/"))) return text;
  throw new Error("expected the name of a program or its absolute path");
}

function parseTimeout(text: string): number {
  const ms = parseTime(text);
  if (ms >= 1 && ms <= MAX_PROGRAM_TIMEOUT_MS) return ms;
  throw new Error(`expected a time from 1ms to ${formatTime(MAX_PROGRAM_TIMEOUT_MS)}, got ${quoted(text)}`);
}
