/**
 * Pushes of real clients through Layover to docker-registry: open, behind tokens, behind Basic. What arrived is compared
 * byte by byte, asked straight and through Layover.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { digestOf } from "../support/images.ts";
import type { Client, Setup } from "./client.ts";
import { allClients, createLab, DOMAIN, type Lab, PLAIN_HOST } from "./lab.ts";
import { hasProgram, run } from "./shell.ts";
import { UPSTREAM_USER, type UpstreamName } from "./upstreams.ts";

const SOURCE = "quay.io/lab/multi:latest";
const plain: Setup = { plainHosts: [PLAIN_HOST, `ghcr.${PLAIN_HOST}`, `quay.${PLAIN_HOST}`] };
let lab: Lab;

beforeAll(async () => {
  lab = await createLab(["--allow-push"]);
});
afterAll(() => lab?.stop());

interface Place {
  readonly name: string;
  readonly upstream: UpstreamName;
  /** What stands before the image. */
  readonly prefix: string;
  /** User name, where the registry wants one. */
  readonly username?: string;
  readonly setup: Setup;
}

const PLACES: readonly Place[] = [
  { name: "open, by path", upstream: "quay", prefix: `${PLAIN_HOST}/quay.io`, setup: plain },
  { name: "open, by host", upstream: "quay", prefix: `quay.${PLAIN_HOST}`, setup: plain },
  { name: "tokens, by path", upstream: "ghcr", prefix: `${PLAIN_HOST}/ghcr.io`, username: "ghcr/alice", setup: plain },
  { name: "tokens, by host", upstream: "ghcr", prefix: `ghcr.${PLAIN_HOST}`, username: "alice", setup: plain },
  { name: "tokens, default registry", upstream: "hub", prefix: PLAIN_HOST, username: "alice", setup: plain },
  {
    name: "Basic, by path",
    upstream: "ecr",
    prefix: `${PLAIN_HOST}/public.ecr.aws`,
    username: "ecr/alice",
    setup: plain,
  },
  {
    name: "tokens, by host with TLS",
    upstream: "ghcr",
    prefix: `ghcr.${DOMAIN}`,
    username: "alice",
    setup: { plainHosts: [] },
  },
];

for (const { name, programs, push } of allClients("", "")) {
  if (push === undefined) continue;
  const absent = programs.filter((program) => !hasProgram(program));
  describe.skipIf(absent.length > 0)(`${name} pushes`, () => {
    for (const [index, place] of PLACES.entries()) {
      test(`[R67, R74, R78, R80] ${place.name}: what arrives is what was sent, and is pulled at once`, async () => {
        const client = await configured(name, place.setup);
        const repository = `pushed/${name}${index}`;
        const target = `${place.prefix}/${repository}:v1`;
        const credentials =
          place.username === undefined ? undefined : { username: place.username, password: UPSTREAM_USER.password };
        const host = place.setup === plain ? PLAIN_HOST : DOMAIN;
        if (credentials !== undefined) {
          // What counts is what arrived: buildah ends well where nothing was pushed.
          await client.push?.(`${host}/${SOURCE}`, target).catch(() => "refused");
          await expect(contentOf(lab.upstreams.url[place.upstream], `/v2/${repository}`, "v1")).rejects.toThrow("404");
        }
        const digest = await client.push?.(`${host}/${SOURCE}`, target, credentials);
        const straight = await contentOf(lab.upstreams.url[place.upstream], `/v2/${repository}`, "v1");
        expect(straight.digest).toBe(digest ?? "");
        const through = `${place.upstream === "hub" ? "docker.io" : place.upstream}/${repository}`;
        expect(await contentOf(`http://${PLAIN_HOST}`, `/v2/${through}`, "v1", place.upstream)).toEqual(straight);
      });
    }
  });
}

test.skipIf(!hasProgram("skopeo"))("[R78] skopeo deletes, and the tag is gone at once", async () => {
  const client = await configured("skopeo", plain);
  const target = `${PLAIN_HOST}/quay.io/pushed/deleted:v1`;
  await client.push?.(`${PLAIN_HOST}/${SOURCE}`, target);
  await run(["skopeo", "delete", "--tls-verify=false", "--no-creds", `docker://${target}`]);
  expect((await fetch(`${lab.upstreams.url.quay}/v2/pushed/deleted/manifests/v1`)).status).toBe(404);
  expect((await fetch(`http://${PLAIN_HOST}/v2/quay.io/pushed/deleted/manifests/v1`)).status).toBe(404);
});

async function configured(name: string, setup: Setup): Promise<Client> {
  const client = lab.clients.find((each) => each.name === name);
  if (client === undefined) throw new Error(`no client ${name}`);
  await client.configure(setup);
  return client;
}

interface Pushed {
  readonly digest: string;
  /** Every manifest and blob below the tag, each of them whole and of its digest. */
  readonly all: string[];
}

/** @param of the registry whose login is shown; straight ones take the same user */
async function contentOf(base: string, path: string, tag: string, of?: UpstreamName): Promise<Pushed> {
  const user = of === undefined || of === "hub" ? UPSTREAM_USER.username : `${of}/${UPSTREAM_USER.username}`;
  const basic = `Basic ${Buffer.from(`${user}:${UPSTREAM_USER.password}`).toString("base64")}`;
  const headers: Record<string, string> = {
    accept:
      "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json",
  };
  const get = async (rest: string): Promise<Uint8Array> => {
    const ask = () => fetch(`${base}${path}/${rest}`, { headers, tls: { rejectUnauthorized: false } });
    let answer = await ask();
    if (answer.status === 401) {
      await answer.body?.cancel();
      headers["authorization"] = await authorization(answer.headers.get("www-authenticate") ?? "", basic);
      answer = await ask();
    }
    if (answer.status !== 200) throw new Error(`${base}${path}/${rest}: ${answer.status} ${await answer.text()}`);
    return answer.bytes();
  };
  const all: string[] = [];
  const walk = async (reference: string): Promise<string> => {
    const bytes = await get(`manifests/${reference}`);
    const digest = digestOf(bytes);
    all.push(digest);
    const manifest: { manifests?: Named[]; layers?: Named[]; config?: Named } = JSON.parse(
      new TextDecoder().decode(bytes),
    );
    for (const each of manifest.manifests ?? []) await walk(each.digest);
    for (const each of [...(manifest.config === undefined ? [] : [manifest.config]), ...(manifest.layers ?? [])])
      all.push(`${digestOf(await get(`blobs/${each.digest}`)) === each.digest ? "whole" : "broken"} ${each.digest}`);
    return digest;
  };
  const digest = await walk(tag);
  return { digest, all };
}

interface Named {
  readonly digest: string;
}

async function authorization(challenge: string, basic: string): Promise<string> {
  const realm = /realm="([^"]+)"/.exec(challenge)?.[1] ?? "";
  if (!/^bearer/i.test(challenge)) return basic;
  const scope = /scope="([^"]+)"/.exec(challenge)?.[1] ?? "";
  const service = /service="([^"]+)"/.exec(challenge)?.[1] ?? "";
  const url = `${realm}${realm.includes("?") ? "&" : "?"}service=${service}&scope=${encodeURIComponent(scope)}`;
  const answer = await fetch(url, { headers: { authorization: basic }, tls: { rejectUnauthorized: false } });
  const { token } = (await answer.json()) as { token: string };
  return `Bearer ${token}`;
}
