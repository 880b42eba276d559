/**
 * One server per mode of the leak matrix: a registry with a private repository that Layover has in its cache, with an equal
 * one that it never saw, and a client of each kind. Grants are 25 hours old when it begins: only the right client's, which
 * is asked about again while the registry is there, holds after that.
 */
import { Database } from "bun:sqlite";
import { join } from "node:path";
import { createSealer } from "../../src/proxy/seal.ts";
import { type FakeRegistry, createFakeRegistry } from "./fake-registry.ts";
import { basicHeader } from "./farm.ts";
import { htpasswdText } from "./htpasswd.ts";
import { makeImage } from "./images.ts";
import { type Mode, type Secret, type Upstream, type Who, makeSecret } from "./leak-matrix.ts";
import { type RunningLayover, startLayover } from "./layover.ts";
import { type RawAnswer, rawRequest } from "./raw-http.ts";
import { createTempDir } from "./temp-dir.ts";

export interface LeakServer extends AsyncDisposable {
  readonly registry: FakeRegistry;
  /** In the cache, with its twin that never was. */
  readonly kept: Secret;
  readonly never: Secret;
  /** `former` has a client for each state of the upstream: one that asked while it was up has no grant any more. */
  authorization(who: Who, upstream: Upstream): string[];
  ask(start: string, lines: readonly string[]): Promise<RawAnswer>;
}

const USERS = {
  alice: { password: "secret" },
  bob: { password: "hunter2", repositories: ["org/bobs"] },
  carol: { password: "was-right" },
  dave: { password: "was-right" },
  robot: { password: "configured" },
};
/** Of our own users in mode `access`: each may read what is public, one of them what is private. */
const RULES = {
  rules: [
    { users: ["*"], repositories: ["closed/org/public", "open/**"], rights: ["pull"] },
    { users: ["alice"], repositories: ["closed/**"], rights: ["pull"] },
  ],
};
const DAY_AND_MORE_MS = 25 * 60 * 60_000;

export async function startLeakServer(mode: Mode): Promise<LeakServer> {
  const dir = await createTempDir("layover-leak-");
  const kept = makeSecret("org/cached");
  const never = makeSecret("org/untold");
  const closed = { users: structuredClone(USERS), privateRepositories: [kept.repository, never.repository] };
  const registry = await createFakeRegistry({ auth: "bearer", ...closed });
  const open = await createFakeRegistry({ auth: "bearer", ...closed });
  for (const { repository, image } of [kept, never]) registry.add(repository, image);
  registry.add("org/public", makeImage({ seed: "public" }));
  open.add("org/app", makeImage({ seed: "open" }));

  const credentials = mode === "relay" ? {} : { credentials: [{ username: "robot", password: "configured" }] };
  const login = mode === "configured" ? { login: "relay" } : {};
  const map = {
    default: "open",
    open: { upstreams: [open.url], hosts: ["open.test"] },
    closed: { upstreams: [registry.url], hosts: ["closed.test"], ...credentials, ...login },
  };
  await Bun.write(dir.file("users"), await htpasswdText({ alice: "secret", bob: "hunter2", carol: "c", dave: "d" }));
  await Bun.write(dir.file("rules.json"), JSON.stringify(RULES));
  const users = ["--htpasswd", dir.file("users"), "--access-rules", dir.file("rules.json")];
  const start = (...more: string[]) =>
    startLayover({
      map,
      args: [
        "--cache-dir",
        dir.file("cache"),
        `--state-dir=${dir.file("state")}`,
        "--cache-min-free=0",
        // Kept tags that are fresh are the nearest to being shown without a question.
        ...(mode === "configured" ? ["--tag-ttl", "1h"] : []),
        ...more,
      ],
    });

  // What is configured has read everything once, for clients that might do so then.
  let layover = await start(...(mode === "relay" ? [] : ["--share-private"]));
  const tokens = await tokensOf(layover);
  for (const headers of [{}, ...["alice", "carol", "dave"].map((user) => bearer(tokens.get(user)))])
    await pullAll(layover, kept, headers);
  for (const path of ["closed/org/public", "open/org/app"])
    await readThrough(layover, `/v2/${path}/manifests/latest`, {});
  await layover.stop();
  ageGrants(dir.file("cache"));
  for (const user of ["carol", "dave"]) registry.access.users[user] = { password: "was-right", repositories: [] };
  registry.expireTokens();
  layover = await start(...(mode === "shared" ? ["--share-private"] : []), ...(mode === "access" ? users : []));
  if (mode === "access")
    for (const login of ["alice:secret", "bob:hunter2", "carol:c", "dave:d"])
      tokens.set(login.split(":")[0] ?? "", await tokenOf(layover, "closed", login));
  const expired = await expiredToken(dir.file("state"), tokens.get("alice") ?? "");
  // Failed logins of one name are limited.
  let guesses = 0;

  const client = (user: string) => [`Authorization: Bearer ${tokens.get(user) ?? ""}`];
  const lines: Record<Who, (upstream: Upstream) => string[]> = {
    nobody: () => [],
    anonymous: () => client("nobody"),
    wrong: () => [`Authorization: ${basicHeader(`${mode === "access" ? "" : "closed/"}guess${guesses++}:x`)}`],
    forged: () => [`Authorization: Bearer ${(tokens.get("alice") ?? "").split("").toReversed().join("")}`],
    expired: () => [`Authorization: Bearer ${expired}`],
    foreign: () => client("alice at open"),
    other: () => client("bob"),
    former: (upstream) => client(upstream === "up" ? "carol" : "dave"),
    right: () => client("alice"),
  };
  return {
    registry,
    kept,
    never,
    authorization: (who, upstream) => lines[who](upstream),
    ask: (start, more) => rawRequest(layover.url, start, more),
    async [Symbol.asyncDispose]() {
      await layover.stop();
      await Promise.all([registry.close(), open.close()]);
      await dir.remove();
    },
  };
}

/** Each client logs in while it can. */
async function tokensOf(layover: RunningLayover): Promise<Map<string, string>> {
  const tokens = new Map<string, string>();
  const logins = [
    ["nobody", "closed", undefined],
    ["alice", "closed", "alice:secret"],
    ["bob", "closed", "bob:hunter2"],
    ["carol", "closed", "carol:was-right"],
    ["dave", "closed", "dave:was-right"],
    ["alice at open", "open", "alice:secret"],
  ] as const;
  for (const [name, key, login] of logins) tokens.set(name, await tokenOf(layover, key, login));
  return tokens;
}

async function tokenOf({ url }: RunningLayover, key: string, login: string | undefined): Promise<string> {
  const headers = login === undefined ? {} : { authorization: basicHeader(login) };
  const answer = await fetch(`${url}/token/${key}`, { headers });
  if (answer.status !== 200) throw new Error(`expected a token for ${login} at ${key}, got ${answer.status}`);
  const { token } = (await answer.json()) as { token: string };
  return token;
}

function bearer(token: string | undefined): Record<string, string> {
  return { authorization: `Bearer ${token ?? ""}` };
}

/** Until it comes from the cache; a client without the right is refused. What runs later is left out. */
async function pullAll(layover: RunningLayover, secret: Secret, headers: Record<string, string>): Promise<void> {
  const path = `/v2/closed/${secret.repository}`;
  for (const what of ["manifests/v1", `manifests/${secret.image.digest}`, `blobs/${secret.layer}`]) {
    for (let cache: string | null = "MISS"; cache !== "HIT" && cache !== null && cache !== "REVALIDATED";)
      cache = await readThrough(layover, `${path}/${what}`, headers);
  }
}

async function readThrough(layover: RunningLayover, path: string, headers: Record<string, string>) {
  const answer = await fetch(`${layover.url}${path}`, { headers: { accept: "*/*", ...headers } });
  await answer.bytes();
  return answer.headers.get("x-cache");
}

function ageGrants(cacheDir: string): void {
  using records = new Database(join(cacheDir, "records.sqlite"));
  records.run("UPDATE grants SET checkedMs = checkedMs - ?", [DAY_AND_MORE_MS]);
}

/** The right client's token, as it was until an hour ago. */
async function expiredToken(stateDir: string, token: string): Promise<string> {
  const sealer = createSealer(Buffer.from((await Bun.file(join(stateDir, "token.key")).text()).trim(), "hex"));
  return sealer.seal({ ...Object(sealer.open(token)), e: Math.floor(Date.now() / 1000) - 3600 });
}
