/**
 * Private images with real clients: their own credentials of the upstream, sent to Layover, open what the upstream lets them
 * read, and nothing without them (product section 5). Each client asks for a token in its own way.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Client, Credentials, Setup } from "./client.ts";
import { allClients, createLab, DOMAIN, PLAIN_HOST, readStore, type Lab } from "./lab.ts";
import { hasProgram } from "./shell.ts";
import { UPSTREAM_USER } from "./upstreams.ts";

const IMAGE = "private/app:latest";
const CHART = "lab/chart:0.1.0";
const plainHosts = [PLAIN_HOST, `ghcr.${PLAIN_HOST}`, `ecr.${PLAIN_HOST}`];
const plain: Setup = { plainHosts };
const store = await readStore();
let lab: Lab;

beforeAll(async () => {
  lab = await createLab();
});
afterAll(() => lab?.stop());

interface Place {
  name: string;
  setup: Setup;
  /** What stands before the image. */
  prefix: string;
  /** On a host of many registries the user name says which one it is for: `ghcr/alice`; a plain one means the default. */
  key?: string;
}

const PLACES: readonly Place[] = [
  { name: "token upstream, by path", setup: plain, prefix: `${PLAIN_HOST}/ghcr.io`, key: "ghcr" },
  { name: "token upstream, by host", setup: plain, prefix: `ghcr.${PLAIN_HOST}` },
  { name: "token upstream, by host with TLS", setup: { plainHosts: [] }, prefix: `ghcr.${DOMAIN}` },
  { name: "token upstream with CDN, default registry", setup: plain, prefix: PLAIN_HOST },
  { name: "Basic upstream, by path", setup: plain, prefix: `${PLAIN_HOST}/public.ecr.aws`, key: "ecr" },
  { name: "Basic upstream, by host", setup: plain, prefix: `ecr.${PLAIN_HOST}` },
];

for (const { name, programs, mirrorForms, mirrorsOnly } of allClients("", "")) {
  const absent = programs.filter((program) => !hasProgram(program));
  describe.skipIf(absent.length > 0)(name, () => {
    for (const place of placesOf(name)) {
      const image = name === "helm" ? CHART : IMAGE;
      const reference = `${place.prefix}/${image}`;
      const username = (place.key === undefined ? "" : `${place.key}/`) + UPSTREAM_USER.username;

      test(`${place.name}: opens with credentials, refuses without and with wrong ones`, async () => {
        const client = await configured(name, place.setup);
        expect(await pull(client, reference)).toStartWith("refused: ");
        expect(await pull(client, reference, { username, password: "wrong" })).toStartWith("refused: ");
        expect(await pull(client, reference, { username, password: UPSTREAM_USER.password })).toBe(digestOf(image));
        expect(await pull(client, reference)).toStartWith("refused: ");
      });
    }

    // These ask for a token by the whole name they pull, which says the registry: a plain user name is enough.
    test.if(/^(skopeo|podman|buildah|crane)$/.test(name))(
      "token upstream, by path: a plain user name is enough",
      async () => {
        const client = await configured(name, plain);
        expect(await pull(client, `${PLAIN_HOST}/ghcr.io/${IMAGE}`, UPSTREAM_USER)).toBe(digestOf(IMAGE));
      },
    );

    // containerd hands the pull secret of an image to its mirror; dockerd does so for Docker Hub (protocol R124).
    const registry = mirrorsOnly ?? "ghcr.io";
    test.if(mirrorForms.includes("root") && name !== "docker29" && !/skopeo|podman|buildah/.test(name))(
      `mirror of ${registry}: opens with credentials`,
      async () => {
        const client = await configured(name, {
          plainHosts,
          mirror: { registry, form: "root", url: `http://${PLAIN_HOST}` },
        });
        expect(await pull(client, `${registry}/${IMAGE}`)).toStartWith("refused: ");
        expect(await pull(client, `${registry}/${IMAGE}`, UPSTREAM_USER)).toBe(digestOf(IMAGE));
      },
    );
  });
}

/** helm has no private chart but at the Basic upstream, where everything is private. */
function placesOf(client: string): Place[] {
  return PLACES.filter(({ name }) => client !== "helm" || name.startsWith("Basic"));
}

async function configured(name: string, setup: Setup): Promise<Client> {
  const client = lab.clients.find((each) => each.name === name);
  if (client === undefined) throw new Error(`no client ${name}`);
  await client.configure(setup);
  return client;
}

async function pull(client: Client, reference: string, credentials?: Credentials): Promise<string> {
  return client.pull(reference, credentials).catch((error: Error) => `refused: ${error.message}`);
}

function digestOf(image: string): string {
  return store.references[image]?.digest ?? "no such image";
}
