/**
 * docker's `config.json` (podman's `auth.json`, Kubernetes' `.dockerconfigjson`): the accounts in it, and the credential
 * helpers it names. Nothing is asked here, and no problem quotes what the file holds.
 */
import { z } from "zod";
import type { CredentialSource, ProgramLimits } from "../registry/registry.ts";
import type { Problem } from "./problem.ts";
import { DOCKER_HUB_HOST, hostsOfKey } from "./well-known.ts";

/** One account, or where it is to be had. */
export interface HostLogin {
  /** Lower case, with port where given; every name of Docker Hub is `"docker.io"`. */
  readonly host: string;
  /** Globs; empty means all. podman's keys may name a repository or what is above it. */
  readonly repositories: readonly string[];
  readonly source: CredentialSource;
}

export interface DockerConfig {
  /** Of `auths` and `credHelpers`. */
  readonly logins: readonly HostLogin[];
  /** Asks the general store for a host of which the file says nothing; undefined without `credsStore`. */
  storeLogin(host: string): HostLogin | undefined;
}

export interface DockerConfigReading {
  /** What problems name as their place. */
  readonly name: string;
  readonly problems: Problem[];
  /** For the helpers. */
  readonly limits: ProgramLimits;
}

const HELPER = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: "expected a helper's name such as ecr-login" });
const ACCOUNT = z.looseObject({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
});
const CONFIG = z.looseObject({
  auths: z.record(z.string(), ACCOUNT).default({}),
  credHelpers: z.record(z.string(), HELPER).default({}),
  credsStore: HELPER.or(z.literal("")).optional(),
});
type Account = z.output<typeof ACCOUNT>;

/** docker's own key of Docker Hub, and what its helpers know it by. */
const HUB_KEY = "https://index.docker.io/v1/";

/** Reads the file; what is wrong is told in `problems`, and then it holds nothing. */
export function parseDockerConfig(text: string, reading: DockerConfigReading): DockerConfig {
  const config = parseConfig(text, reading);
  if (config === undefined) return { logins: [], storeLogin: () => undefined };
  const { limits } = reading;
  const store = config.credsStore === "" ? undefined : config.credsStore;
  const fromStore = (key: string): CredentialSource[] => (store === undefined ? [] : [helper(store, key, limits)]);
  const helped = Object.entries(config.credHelpers).map(([key, name]) => ({
    ...placeOf(key),
    source: helper(name, key, limits),
  }));
  const isHelped = (key: string) => helped.some(({ host }) => host === placeOf(key).host);
  const written = Object.entries(config.auths)
    .filter(([key]) => !isHelped(key))
    .flatMap(([key, account]) => {
      // `docker login` leaves an empty account behind for what its store keeps.
      const sources = isEmpty(account) ? fromStore(key) : sourceOf(key, account, reading);
      return sources.map((source) => ({ ...placeOf(key), source }));
    });
  const logins = [...helped, ...written];
  return {
    logins,
    storeLogin(host) {
      const [source] = fromStore(host === DOCKER_HUB_HOST ? HUB_KEY : host);
      return source === undefined ? undefined : { host, repositories: [], source };
    },
  };
}

/** One of Docker Hub's names becomes `"docker.io"`, and `"auth.docker.io"` of older settings too. */
export function hostOfLogin(host: string): string {
  const lower = host.toLowerCase();
  return hostsOfKey("docker").includes(lower) || lower === "auth.docker.io" ? DOCKER_HUB_HOST : lower;
}

function parseConfig(text: string, { name, problems }: DockerConfigReading): z.output<typeof CONFIG> | undefined {
  const result = CONFIG.safeParse(parseJson(text));
  if (result.success) return result.data;
  for (const { path, message } of result.error.issues) {
    // zod says which types it met and never the values.
    const place = path.map((part) => `[${JSON.stringify(part)}]`).join("");
    problems.push({
      from: `${name}${place}`,
      what: message.replace(/^Invalid input: /, "").replace(/, received undefined$/, ", got something else"),
    });
  }
  return undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message may quote the file. What is no JSON is no object either, and told so.
    return undefined;
  }
}

/** `"https://index.docker.io/v1/"` → docker.io; `"quay.io/org"` → quay.io and its `org/**`. */
function placeOf(key: string): Pick<HostLogin, "host" | "repositories"> {
  const [host = "", ...path] = key.replace(/^https?:\/\//, "").split("/");
  const name = path.join("/").replace(/\/+$/, "");
  const isWhole = name === "" || /^v[12]$/.test(name);
  return { host: hostOfLogin(host), repositories: isWhole ? [] : [name, `${name}/**`] };
}

function helper(name: string, serverUrl: string, limits: ProgramLimits): CredentialSource {
  return { kind: "helper", program: `docker-credential-${name}`, serverUrl, ...limits };
}

function isEmpty({ auth, username, password, identitytoken }: Account): boolean {
  return !auth && !username && !password && !identitytoken;
}

function sourceOf(key: string, account: Account, { name, problems }: DockerConfigReading): CredentialSource[] {
  if (account.identitytoken) return [{ kind: "identity-token", token: account.identitytoken }];
  const text = account.auth ? Buffer.from(account.auth, "base64").toString("utf8") : "";
  const [, username = account.username, password = account.password] =
    /^([^:]+):(.+)$/s.exec(text.replace(/\0+$/, "")) ?? [];
  if (username && password && !username.includes(":")) {
    // docker's mark for an identity token, as its helpers use it.
    if (username === "<token>") return [{ kind: "identity-token", token: password }];
    return [{ kind: "password", username, password }];
  }
  problems.push({
    from: `${name}["auths"][${JSON.stringify(key)}]`,
    what: "expected auth as base64 of user:password, username and password, or identitytoken",
  });
  return [];
}
