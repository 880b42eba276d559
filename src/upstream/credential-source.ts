/**
 * Where the secret of a configured credential comes from: what is known since the map was read, or a program that is asked.
 * Messages name the program and its exit code, never what it said.
 */
import { UpstreamError } from "../errors.ts";
import type { CredentialSource } from "../registry/registry.ts";
import { parseAnswer, type Secret } from "./credential-answer.ts";
import type { ProgramEnd, RunProgram } from "./credential-program.ts";
import { IDENTITY_TOKEN_USER } from "./token.ts";

/** A source that must be asked, now and again. */
export type AskedSource = Extract<CredentialSource, { kind: "helper" | "exec" }>;

export interface SourceDependencies {
  readonly run: RunProgram;
  /** Our own environment, from which the programs get what they are to have. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Wall clock, milliseconds. */
  readonly now: () => number;
  readonly signal: AbortSignal;
}

/** What every program finds in its environment: itself, and its user's settings. */
const GIVEN_VARIABLES = ["PATH", "HOME"];

/** The secret of a source that needs no asking. */
export function knownSecret(source: Exclude<CredentialSource, AskedSource>): Omit<Secret, "expiresAtMs"> {
  if (source.kind === "password") return source;
  return { username: IDENTITY_TOKEN_USER, password: source.token };
}

/**
 * Asks the program once.
 * @throws UpstreamError `token` when it fails or its answer cannot be read
 */
export async function askSource(source: AskedSource, dependencies: SourceDependencies): Promise<Secret> {
  const { run, env, now, signal } = dependencies;
  const program = {
    argv: source.kind === "exec" ? source.argv : ([source.program, "get"] as const),
    input: source.kind === "exec" ? "" : source.serverUrl,
    env: environmentFor(source.env, env),
    timeoutMs: source.timeoutMs,
  };
  const name = program.argv[0];
  const end = await run(program, signal);
  if (end.exitCode !== 0) throw new UpstreamError("token", `program ${name} ${exitOf(source, end)}`);
  try {
    return parseAnswer(end.output, { username: source.kind === "exec" ? source.username : undefined, nowMs: now() });
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new UpstreamError("token", `program ${name}: ${what}`);
  }
}

/** A credential for people: who, and from where; never the secret. */
export function describeSource(source: CredentialSource): string {
  switch (source.kind) {
    case "password":
      return `user ${source.username}`;
    case "identity-token":
      return "identity token";
    case "helper":
      return `program ${source.program}`;
    case "exec":
      return `program ${source.argv[0]}`;
  }
}

function environmentFor(names: readonly string[], env: SourceDependencies["env"]): Record<string, string> {
  const given = [...GIVEN_VARIABLES, ...names].map((name) => [name, env[name]] as const);
  return Object.fromEntries(given.filter((pair): pair is [string, string] => pair[1] !== undefined));
}

/** docker's helpers say on standard output, in these words, that they know the server not. */
function exitOf(source: AskedSource, { exitCode, output }: ProgramEnd): string {
  const isUnknown = source.kind === "helper" && output.startsWith("credentials not found");
  return isUnknown ? `has no credentials for ${source.serverUrl}` : `ended with exit code ${exitCode}`;
}
