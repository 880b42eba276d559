/**
 * Users and their hashes, as `htpasswd -B` writes them: `name:hash` a line. Only bcrypt is taken, since the other kinds are
 * guessed in no time once the file is read by somebody. No problem that is told holds a hash.
 */
import { ANONYMOUS_NAME, ANY_USER } from "../proxy/users.ts";
import type { Problem } from "./problem.ts";
import { quoted } from "./units.ts";

/** As large a file as anybody keeps by hand; a list beyond it belongs elsewhere. */
const MAX_FILE_CHARACTERS = 4 * 1024 * 1024;
const MAX_NAME_CHARACTERS = 256;
/** Four seconds for each login, about; one more would be eight. */
const MAX_COST = 15;

const BCRYPT = /^\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}$/;

/** Reads the text; what is wrong is added to `problems`, and `path` names its place. */
export function parseHtpasswd(path: string, text: string, problems: Problem[]): ReadonlyMap<string, string> {
  const users = new Map<string, string>();
  if (text.length > MAX_FILE_CHARACTERS) {
    problems.push({ from: path, what: `expected at most ${MAX_FILE_CHARACTERS} characters, got ${text.length}` });
    return users;
  }
  for (const [index, line] of text.split("\n").entries()) {
    const entry = line.trim();
    if (entry === "" || entry.startsWith("#")) continue;
    const from = `${path}: line ${index + 1}`;
    // What stands behind a second colon is a comment to others, too.
    const [name = "", hash] = entry.split(":");
    const what = faultOf(name, hash, users);
    if (what !== undefined) problems.push({ from, what });
    else users.set(name, hash ?? "");
  }
  return users;
}

function faultOf(name: string, hash: string | undefined, users: ReadonlyMap<string, string>): string | undefined {
  if (hash === undefined) return "expected name:hash, as htpasswd -B writes it";
  if (name === "" || name.length > MAX_NAME_CHARACTERS || /\p{Cc}/u.test(name))
    return `expected a user name of at most ${MAX_NAME_CHARACTERS} characters, got ${quoted(name)}`;
  if (name === ANONYMOUS_NAME || name === ANY_USER)
    return `user ${quoted(name)}: the name means something else in access rules; choose another`;
  if (users.has(name)) return `user ${quoted(name)} stands in the file twice`;
  const cost = BCRYPT.exec(hash)?.[1];
  if (cost === undefined) {
    return `user ${quoted(name)}: expected a bcrypt hash, got ${kindOf(hash)}; set the password again with htpasswd -B`;
  }
  if (Number(cost) > MAX_COST) {
    return `user ${quoted(name)}: expected a cost of at most ${MAX_COST}, got ${Number(cost)}: each login would take seconds; set the password again with htpasswd -B -C 10`;
  }
  return undefined;
}

/** By its beginning: the hash itself is a secret. */
function kindOf(hash: string): string {
  if (hash.startsWith("$2")) return "one that is cut short or of a kind that is not known";
  if (hash.startsWith("$apr1$") || hash.startsWith("$1$")) return "an MD5 one";
  if (hash.startsWith("{SHA}")) return "a SHA-1 one";
  if (hash.startsWith("$5$") || hash.startsWith("$6$")) return "a SHA-2 crypt one";
  if (hash.startsWith("$argon2")) return "an argon2 one";
  return hash === "" ? "nothing" : "a crypt one or plain text";
}
