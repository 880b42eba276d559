/**
 * `AUTH_REGISTRIES` of docker-registry-proxy: accounts as `host:user:password`, between them white space. Both delimiters can
 * be others, of any length, so that a password may hold anything: Google's `_json_key` is a JSON document with spaces and colons.
 */
import { hostOfLogin, type HostLogin } from "./docker-config.ts";
import { textOf, type Draft } from "./inherited.ts";

/** A bad account is one warning, which names its place and nothing of it. */
export function readAuthRegistries({ env, warnings }: Draft): HostLogin[] {
  const text = textOf(env, "AUTH_REGISTRIES");
  if (text === undefined) return [];
  // Not trimmed: a line's end is a delimiter too.
  const between = env["AUTH_REGISTRIES_DELIMITER"] || " ";
  const within = env["AUTH_REGISTRY_DELIMITER"] || ":";
  const accounts = text.split(between === " " ? /\s+/ : between).filter((part) => part.trim() !== "");
  const logins = accounts.map((account) => parseAccount(account.trim(), within));
  for (const [i, login] of logins.entries()) {
    if (login === undefined)
      warnings.push(
        `AUTH_REGISTRIES: account ${i + 1} is ignored: expected host, user and password with ${JSON.stringify(within)} between them`,
      );
  }
  const found = logins.filter((login) => login !== undefined);
  if (found.length > 0)
    warnings.push(`AUTH_REGISTRIES is read as credentials for ${found.map(({ host }) => host).join(", ")}`);
  return found;
}

/** The password is the rest, so only host and user must not hold the delimiter. */
function parseAccount(account: string, delimiter: string): HostLogin | undefined {
  const [host = "", username = "", ...rest] = account.split(delimiter);
  const password = rest.join(delimiter);
  const isHost = /^[a-z0-9-]+(\.[a-z0-9-]+)+(:\d{1,5})?$/i.test(host);
  if (!isHost || username === "" || /[:\p{Cc}]/u.test(username) || password === "") return undefined;
  return { host: hostOfLogin(host), repositories: [], source: { kind: "password", username, password } };
}
