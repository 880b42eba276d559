/**
 * The files of client access and their renewal while we run: users with their hashes, and the rules. Both are read
 * together, so that a rule and the user it names come into force at once; when either is bad, everything stays as it was.
 */
import type { Log } from "../log.ts";
import type { AccessRule, UserLists } from "../proxy/users.ts";
import { parseAccessRules } from "./access-rules.ts";
import { parseHtpasswd } from "./htpasswd.ts";
import { ConfigError, type Problem, problemLine } from "./problem.ts";
import type { AccessSettings } from "./settings.ts";

export interface AccessSourceDependencies {
  readonly log: Pick<Log, "info" | "error">;
  readFile(path: string): Promise<string>;
  /** Tells of changes of the files until the returned function is called. */
  readonly watch: (files: readonly string[], changed: () => void) => () => void;
}

export interface AccessSource {
  current(): UserLists;
  /** Reads the files again. A bad one is logged and everything stays: never rejects. */
  reload(): Promise<void>;
  close(): void;
}

/** @throws ConfigError with all problems of both files */
export async function createAccessSource(
  settings: AccessSettings,
  { log, readFile, watch }: AccessSourceDependencies,
): Promise<AccessSource> {
  let lists = await readAccess(settings, readFile);
  let running: Promise<void> = Promise.resolve();

  async function renew(): Promise<void> {
    try {
      lists = await readAccess(settings, readFile);
      log.info({ users: lists.hashes?.size, rules: lists.rules?.length }, "users and access rules loaded");
    } catch (error) {
      // Whoever could log in a moment ago still can; the mend is in the line.
      const problems = error instanceof ConfigError ? error.problems.map(problemLine) : [String(error)];
      log.error({ problems }, "new users or access rules refused, the old ones stay");
    }
  }
  /** One after the other: an older read must not win over a newer one. */
  function reload(): Promise<void> {
    running = running.then(renew);
    return running;
  }

  const files = [settings.htpasswdFile, settings.rulesFile].filter((file) => file !== undefined);
  const stop = files.length === 0 ? () => undefined : watch(files, () => void reload());
  return { current: () => lists, reload, close: stop };
}

/** What the files say. @throws ConfigError */
export async function readAccess(
  { htpasswdFile, rulesFile }: AccessSettings,
  readFile: (path: string) => Promise<string>,
): Promise<UserLists> {
  const problems: Problem[] = [];
  const textOf = async (path: string, flag: string): Promise<string | undefined> =>
    readFile(path).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      problems.push({ from: path, what: `cannot be read: ${reason}; check ${flag}` });
      return undefined;
    });

  let hashes: ReadonlyMap<string, string> | undefined;
  let rules: readonly AccessRule[] | undefined;
  if (htpasswdFile !== undefined)
    hashes = parseHtpasswd(htpasswdFile, (await textOf(htpasswdFile, "--htpasswd")) ?? "", problems);
  const rulesText = rulesFile === undefined ? undefined : await textOf(rulesFile, "--access-rules");
  if (rulesFile !== undefined && rulesText !== undefined) rules = parseAccessRules(rulesFile, rulesText, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return { hashes, rules };
}
