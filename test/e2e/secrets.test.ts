/**
 * No secret leaves: a server with recognisable ones in every source, everything that can fail made to fail, at the most
 * talkative log level; then all that was said is searched for them.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, writeFile } from "node:fs/promises";
import { type Farm, basicHeader, startFarm } from "../support/farm.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";

/** One of its own for each source, so that a finding says where it came from. */
const SECRETS = {
  mapPassword: "hunter2-in-map",
  passwordFile: "hunter2-in-file",
  passwordVariable: "hunter2-in-variable",
  identityToken: "hunter2-identity-token",
  dockerPassword: "hunter2-in-docker-config",
  helper: "hunter2-of-helper",
  helperError: "hunter2-of-failing-helper",
  program: "hunter2-of-program",
  programOutput: "hunter2-of-failing-program",
  programError: "hunter2-on-stderr",
  dockerHub: "hunter2-of-docker-hub",
  authRegistries: "hunter2-of-auth-registries",
  client: "hunter2-of-a-client",
  clientIdentityToken: "hunter2-of-a-client-refresh",
} as const;

let dir: TempDir;
let farm: Farm;
/** Everything that a client saw. */
const answers: string[] = [];

async function program(name: string, script: string): Promise<string> {
  await writeFile(dir.file(name), `#!/bin/sh\n${script}\n`);
  await chmod(dir.file(name), 0o755);
  return dir.file(name);
}

async function see(path: string, options: Parameters<Farm["ask"]>[1] = {}): Promise<number> {
  const response = await farm.ask(path, options);
  answers.push(`${response.status} ${JSON.stringify([...response.headers])} ${await response.text()}`);
  return response.status;
}

beforeAll(async () => {
  dir = await createTempDir("layover-secrets-");
  const good = await program("good", `printf '{"username":"x","password":"${SECRETS.program}","expiresIn":1}'`);
  const bad = await program("bad", `echo ${SECRETS.programError} >&2; echo ${SECRETS.programOutput}; exit 7`);
  const garbage = await program("garbage", `echo ${SECRETS.programOutput}`);
  const slow = await program("slow", `echo ${SECRETS.programOutput}; sleep 60`);
  await program("docker-credential-good", `printf '{"Username":"<token>","Secret":"${SECRETS.helper}"}'`);
  await program("docker-credential-bad", `echo ${SECRETS.helperError}; exit 1`);
  await writeFile(dir.file("password"), SECRETS.passwordFile);
  await writeFile(dir.file("token"), SECRETS.identityToken);
  const auth = Buffer.from(`docker:${SECRETS.dockerPassword}`).toString("base64");
  const docker = { auths: { "quay.io": { auth } }, credHelpers: { "helped.test": "good", "broken.test": "bad" } };
  await writeFile(dir.file("docker.json"), JSON.stringify(docker));
  farm = await startFarm({
    args: ["--share-private", "--docker-config", dir.file("docker.json"), "--log-level", "trace"],
    env: {
      PATH: `${dir.path}:${process.env["PATH"] ?? ""}`,
      PASSWORD: SECRETS.passwordVariable,
      DOCKER_HUB_USERNAME: "me",
      DOCKER_HUB_PASSWORD: SECRETS.dockerHub,
      AUTH_REGISTRIES: `authed.test:u:${SECRETS.authRegistries} nonsense:${SECRETS.authRegistries}`,
    },
    entries: {
      ghcr: {
        login: "relay",
        credentials: [
          { repositories: ["org/file"], username: "u", passwordFile: dir.file("password") },
          { repositories: ["org/variable"], username: "u", passwordEnv: "PASSWORD" },
          { repositories: ["org/identity"], identityTokenFile: dir.file("token") },
          { repositories: ["org/good"], exec: [good] },
          { repositories: ["org/bad"], exec: [bad] },
          { repositories: ["org/garbage"], exec: [garbage] },
          { repositories: ["org/slow"], exec: [slow], timeout: "200ms" },
        ],
      },
      basic: { credentials: [{ username: "u", password: SECRETS.mapPassword }] },
    },
    map: Object.fromEntries(
      ["helped", "broken", "authed"].map((key, i) => [
        key,
        { upstreams: [`http://127.0.0.1:1/${i}`], hosts: [`${key}.test`] },
      ]),
    ),
  });
});
afterAll(async () => {
  await farm.stop();
  await dir.remove();
});

/** A secret as it is, and as Basic credentials, URLs and JSON would carry it. */
function formsOf(secret: string): string[] {
  const users = ["", "u:", "x:", "me:", "docker:", "alice:", "<token>:"];
  return [secret, ...users.map((user) => Buffer.from(`${user}${secret}`).toString("base64"))];
}

test("[R248] no secret of any source reaches logs, pages, metrics or errors, whatever fails", async () => {
  const repositories = ["file", "variable", "identity", "good", "bad", "garbage", "slow"].map(
    (name) => `ghcr/org/${name}`,
  );
  const others = ["hub/org/private", "basic/org/private", "quay/org/private", "helped/a/b", "broken/a/b", "authed/a/b"];
  const paths = [...repositories, ...others].map((name) => `/v2/${name}/manifests/latest`);
  const statuses: number[] = [];
  const pullAll = async () => {
    for (const path of paths) statuses.push(await see(path));
    for (const path of paths)
      statuses.push(await see(path.replace("latest", `sha256:${"0".repeat(64)}`), { method: "HEAD" }));
  };
  await pullAll();
  farm.ghcr.faults.token.status = 500;
  farm.hub.faults.token.status = 503;
  farm.basic.faults.manifest.status = 500;
  farm.ghcr.access.expireTokens();
  await pullAll();
  farm.reset();
  for (const secret of [SECRETS.client, SECRETS.clientIdentityToken])
    await see("/token/ghcr?service=x&scope=repository:org/private:pull", {
      headers: { authorization: basicHeader(`${secret === SECRETS.client ? "alice" : "<token>"}:${secret}`) },
    });
  await see("/token/ghcr", {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: `grant_type=refresh_token&service=x&client_id=c&refresh_token=${SECRETS.clientIdentityToken}`,
  });
  for (const path of ["/help", "/metrics", "/readyz", "/", "/docs", "/nothing"]) await see(path);
  farm.layover.signal("SIGHUP");
  await farm.layover.logLine(({ msg }) => msg === "registry map loaded");

  // All of it was tried: programs that fail are told by name, and nothing was readable.
  const log = farm.layover.log.map((line) => JSON.stringify(line));
  for (const said of ["ended with exit code 7", "expected JSON", "no answer within 200 ms", "docker-credential-bad"])
    expect(log.join("\n")).toContain(said);
  expect(statuses.filter((status) => status === 200)).toEqual([]);
  for (const [source, secret] of Object.entries(SECRETS)) {
    const findings = [...log, ...answers].filter((text) => formsOf(secret).some((form) => text.includes(form)));
    expect({ source, findings }).toEqual({ source, findings: [] });
  }
});
