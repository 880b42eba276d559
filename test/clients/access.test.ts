/**
 * Real clients that log in to Layover itself: its users pull what the configured credentials may read, from a registry with
 * tokens and from one with Basic, and nobody else does.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startLayover, type RunningLayover } from "../support/layover.ts";
import { createTempDir, type TempDir } from "../support/temp-dir.ts";
import type { Client, Credentials } from "./client.ts";
import { ADDRESS, allClients, createLab, DOMAIN, type Lab, readStore } from "./lab.ts";
import { hasProgram } from "./shell.ts";
import { UPSTREAM_USER } from "./upstreams.ts";

const PORT = 5002;
const HOST = `${DOMAIN}:${PORT}`;
const OTHER: Credentials = { username: "bob", password: "his own" };
/** One for each client and registry: wrong passwords are limited by user, and clients try them several times. */
const USERS: Credentials[] = allClients("", "").flatMap(({ name }) =>
  ["ghcr", "ecr", "mirror"].map((at) => userFor(name, at)),
);
const IMAGE = "private/app:latest";
const CHART = "lab/chart:0.1.0";
const store = await readStore();
let lab: Lab;
let dir: TempDir;
let layover: RunningLayover;

beforeAll(async () => {
  lab = await createLab();
  dir = await createTempDir("layover-clients-access-");
  const { url, caFile } = lab.upstreams;
  const lines = await Promise.all([...USERS, OTHER].map(htpasswdLine));
  await Bun.write(dir.file("htpasswd"), lines.join(""));
  await Bun.write(
    dir.file("rules.json"),
    JSON.stringify({
      rules: [{ users: USERS.map(({ username }) => username), repositories: ["**"], rights: ["pull"] }],
    }),
  );
  const cache = ["--cache-dir", dir.file("cache"), "--cache-min-free", "0"];
  const users = ["--htpasswd", dir.file("htpasswd"), "--access-rules", dir.file("rules.json")];
  layover = await startLayover({
    map: {
      default: "ghcr",
      ghcr: { upstreams: [url.ghcr], hosts: ["ghcr.io"], tls: { caFile }, credentials: [UPSTREAM_USER] },
      ecr: { upstreams: [url.ecr], hosts: ["public.ecr.aws"], credentials: [UPSTREAM_USER] },
    },
    args: ["--listen", `${ADDRESS}:${PORT}`, ...cache, ...users],
  });
});
afterAll(async () => {
  await layover?.stop();
  await lab?.stop();
  await dir?.remove();
});

for (const { name, programs, mirrorForms, mirrorsOnly } of allClients("", "")) {
  describe.skipIf(!programs.every(hasProgram))(name, () => {
    const image = name === "helm" ? CHART : IMAGE;
    const registries = name === "helm" ? ["ecr"] : ["ghcr", "ecr"];
    test.each(registries)("pulls a private image of %s as a user with the right, and as nobody else", async (key) => {
      const client = lab.clients.find((each) => each.name === name);
      await client?.configure({ plainHosts: [HOST] });
      const reference = `${HOST}/${key}/${image}`;
      const user = userFor(name, key);
      const attempts = [undefined, { ...user, password: "wrong" }, OTHER, UPSTREAM_USER, user, undefined];
      const outcomes: string[] = [];
      for (const credentials of attempts) outcomes.push(await outcomeOf(client, reference, credentials));
      const digest = store.references[image]?.digest ?? "no such image";
      expect(outcomes).toEqual(["refused", "refused", "refused", "refused", digest, "refused"]);
    });

    // containerd hands the pull secret of an image to its mirror.
    test.if(mirrorForms.includes("root") && mirrorsOnly === undefined && name.startsWith("containerd"))(
      "logs in to a mirror of ghcr.io with the pull secret of the image",
      async () => {
        const client = lab.clients.find((each) => each.name === name);
        const mirror = { registry: "ghcr.io", form: "root", url: `http://${HOST}` } as const;
        await client?.configure({ plainHosts: [HOST], mirror });
        expect(await client?.pull(`ghcr.io/${IMAGE}`, userFor(name, "mirror"))).toBe(store.references[IMAGE]?.digest);
      },
    );
  });
}

function userFor(client: string, registry: string): Credentials {
  return { username: `ann.${client}.${registry}`, password: "her own" };
}

async function outcomeOf(client: Client | undefined, reference: string, credentials?: Credentials): Promise<string> {
  if (client === undefined) return "no such client";
  return client.pull(reference, credentials).catch(() => "refused");
}

async function htpasswdLine({ username, password }: Credentials): Promise<string> {
  return `${username}:${await Bun.password.hash(password, { algorithm: "bcrypt", cost: 4 })}\n`;
}
