/**
 * Every client in every way of using Layover, each pull from a cold store, compared with the same pull straight from the
 * upstream: the digest must be the same, and what fails there must fail here (protocol R285, compat C39).
 *
 * The short form tries every image in each client's usual mode and one image in all others; --long tries everything.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { LogLine } from "../support/layover.ts";
import type { Client, Setup } from "./client.ts";
import { allClients, createLab, readStore, type Lab } from "./lab.ts";
import { DIRECT, DIRECT_HOST, IMAGES, isBeyond, modesOf, usualModeOf, type Mode } from "./modes.ts";
import { hasProgram } from "./shell.ts";

type Outcome = { digest: string } | { failure: string };

const isLong = process.env["LAYOVER_CLIENTS_LONG"] === "1";
const store = await readStore();
const setups = new Map<Client, string>();
const baselines = new Map<string, Promise<Outcome>>();
let lab: Lab;

beforeAll(async () => {
  lab = await createLab();
});
afterAll(() => lab?.stop());

for (const { name, programs, isInDebian } of allClients("", "")) {
  const absent = programs.filter((program) => !hasProgram(program));
  describe(name, () => {
    const isDemanded = process.env["CI"] === "true" && (isInDebian || hasProgram("go"));
    if (absent.length > 0 && isDemanded) {
      test(`needs ${absent.join(", ")}`, () => {
        throw new Error(`expected ${absent.join(", ")} on this machine: see .ci/run and test/clients/tools.sh`);
      });
    }
    test.skipIf(absent.length > 0)("does what is known of it straight from the upstream", async () => {
      for (const image of imagesOf(name)) {
        const outcome = await baseline(clientNamed(name), image);
        const { manifests } = store.references[image] ?? { manifests: [] };
        if (isBeyond(name, image)) expect([image, outcome]).toEqual([image, { failure: expect.any(String) }]);
        else expect(manifests).toContain("digest" in outcome ? outcome.digest : `${image}: ${outcome.failure}`);
      }
    });
    for (const [mode, image] of cellsOf(name)) {
      test.skipIf(absent.length > 0)(`${mode.name} · ${image}`, async () => {
        const client = clientNamed(name);
        const expected = await baseline(client, image);
        const requests = lab.watch();
        const outcome = await pull(client, mode.setup, mode.reference(image));
        // A client that failed at its mirror goes on to the origin and complains about that.
        const hasOrigin = mode.setup.mirror !== undefined && "failure" in expected;
        if ("digest" in outcome) expect(blobsAmong(await requests())).toBeGreaterThan(0); // else the store was not cold
        expect(outcome).toEqual(hasOrigin ? { failure: expect.any(String) } : expected);
      });
    }
  });
}

function cellsOf(name: string): [Mode, string][] {
  const client = allClients("", "").find((each) => each.name === name);
  if (client === undefined) return [];
  const isChosen = (mode: Mode, image: string): boolean =>
    isLong || mode.name === usualModeOf(client) || isSample(name, image);
  return modesOf(client).flatMap((mode) =>
    imagesOf(name)
      .filter((image) => (mode.fits?.(image) ?? true) && isChosen(mode, image))
      .map((image): [Mode, string] => [mode, image]),
  );
}

/** One image stands for all in the short form; modes that only fit another have that. */
function isSample(client: string, image: string): boolean {
  return client === "helm" || image === "lab/multi:latest" || image === "pause:3.9";
}

/** helm pulls charts and nothing else. */
function imagesOf(client: string): readonly string[] {
  return client === "helm" ? IMAGES.filter((image) => image.includes("chart")) : IMAGES;
}

/** What the client makes of the image straight from the upstream; asked once. */
function baseline(client: Client, image: string): Promise<Outcome> {
  const key = `${client.name} ${image}`;
  const known = baselines.get(key) ?? pull(client, DIRECT, `${DIRECT_HOST}/${image}`);
  baselines.set(key, known);
  return known;
}

async function pull(client: Client, setup: Setup, reference: string): Promise<Outcome> {
  const wanted = JSON.stringify(setup);
  if (setups.get(client) !== wanted) await client.configure(setup);
  setups.set(client, wanted);
  try {
    return { digest: await client.pull(reference) };
  } catch (error) {
    return { failure: causeOf(error, reference) };
  }
}

/** The end of a client's complaint without what differs between two places: names, digests, times. */
function causeOf(error: unknown, reference: string): string {
  const message = error instanceof Error ? error.message : String(error);
  const [name = ""] = reference.split(/[:@](?=[^/]*$)/);
  const neutral = message
    .replaceAll(reference, "REFERENCE")
    .replaceAll(name, "NAME")
    .replace(/sha256:[0-9a-f]{64}/g, "DIGEST")
    .replace(/https?:\/\/[^\s"\\]+/g, "URL")
    .replace(/"?time="?[^\s"]+"?/g, "");
  return neutral.slice(neutral.lastIndexOf(": ") + 2);
}

function blobsAmong(lines: LogLine[]): number {
  return lines.filter(({ method, uri }) => method === "GET" && String(uri).includes("/blobs/")).length;
}

function clientNamed(name: string): Client {
  const client = lab.clients.find((each) => each.name === name);
  if (client === undefined) throw new Error(`no client ${name}`);
  return client;
}
