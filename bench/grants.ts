/**
 * What it costs to ask who may read what the cache has: processor time of the server per warm manifest, by tag within its
 * time, so that nothing goes upstream. They take turns:
 *
 *   library/… of Docker Hub, public by definition   no grant is looked up
 *   the same, asked with a login's token            the token is opened, no grant is looked up
 *   the same name at another registry               everybody's grant is looked up
 *   the same behind a login                         the token is opened, the credential named, its grant looked up
 */
import { join } from "node:path";
import type { Lab } from "./lab.ts";
import { type Sample, ratioOf, sampleOf, show } from "./numbers.ts";
import { type MeasuredProcess, startProcess } from "./process.ts";
import type { Row } from "./table.ts";
import { load } from "./wrk.ts";

/** Of a warm manifest's processor time. */
const GOAL = 1.1;
const LOGIN = `Basic ${btoa("alice:secret")}`;
const REGISTRIES = { plain: "docker.io", sent: "docker.io", open: "opens.io", closed: "login.io" } as const;
const KINDS = ["plain", "sent", "open", "closed"] as const;
type Kind = (typeof KINDS)[number];

export async function measureGrants(lab: Lab, options: { rounds: number; seconds: number }): Promise<Row[]> {
  if (Bun.which("wrk") === null) return [{ what: "grants", layover: "not measured: wrk is not installed" }];
  using upstream = serveManifests(await Bun.file(join(lab.dir, "manifest")).bytes());
  const layover = await start(lab, upstream.url.origin);
  const token = await tokenOf(layover.url);
  const login = [`Authorization: Bearer ${token}`];
  const headers: Record<Kind, string[]> = { plain: [], sent: login, open: [], closed: login };
  const microseconds: Record<Kind, number[]> = { plain: [], sent: [], open: [], closed: [] };
  for (let round = -1; round < options.rounds; round += 1) {
    for (const kind of KINDS) {
      const url = `${layover.url}/v2/${REGISTRIES[kind]}/library/app/manifests/latest`;
      const before = layover.cpuSeconds();
      const { requests } = await load(url, { seconds: options.seconds, headers: headers[kind] });
      const spent = ((layover.cpuSeconds() - before) / requests) * 1e6;
      if (round >= 0) microseconds[kind].push(spent); // the first warms
    }
  }
  await layover.stop();
  const plain = sampleOf(microseconds.plain);
  const sent = sampleOf(microseconds.sent);
  return [
    { what: "warm manifest, public by definition, µs of processor time", layover: show(plain) },
    { what: "the same, asked with a login's token", layover: show(sent) },
    rowOf("with everybody's grant, beside the first", sampleOf(microseconds.open), plain),
    rowOf("with a login's grant, beside the second", sampleOf(microseconds.closed), sent),
  ];
}

function rowOf(what: string, sample: Sample, beside: Sample): Row {
  const ratio = ratioOf(sample, beside);
  return {
    what,
    layover: `${show(sample)}, ${show(ratio, 2)}`,
    goal: { text: `≤ ${GOAL}`, isMet: ratio.median <= GOAL },
  };
}

/** One manifest in every repository; asked without a login, one registry wants one. */
function serveManifests(manifest: Uint8Array<ArrayBuffer>) {
  const digest = `sha256:${new Bun.CryptoHasher("sha256").update(manifest).digest("hex")}`;
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    development: false,
    fetch(request) {
      const isClosed = new URL(request.url).pathname.startsWith("/closed/");
      if (isClosed && request.headers.get("authorization") !== LOGIN)
        return new Response(null, { status: 401, headers: { "www-authenticate": 'Basic realm="bench"' } });
      const type = "application/vnd.oci.image.manifest.v1+json";
      return new Response(manifest, { headers: { "content-type": type, "docker-content-digest": digest } });
    },
  });
}

async function start(lab: Lab, upstream: string): Promise<MeasuredProcess> {
  const entry = (path: string, host: string) => ({ upstreams: [`${upstream}${path}`], hosts: [host] });
  const map = {
    default: "plain",
    plain: entry("", REGISTRIES.plain),
    open: entry("/open", REGISTRIES.open),
    closed: entry("/closed", REGISTRIES.closed),
  };
  await Bun.write(join(lab.dir, "grants-map.json"), JSON.stringify(map));
  const flags = {
    listen: "127.0.0.1:0",
    "log-format": "json",
    "registry-map": join(lab.dir, "grants-map.json"),
    "state-dir": join(lab.dir, "grants-state"),
    "cache-dir": join(lab.dir, "grants-cache"),
    "cache-min-free": "0",
    "tag-ttl": "1d",
    "grant-ttl": "1d",
  };
  const command = [lab.binary, ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`)];
  return startProcess({ command, outputFile: join(lab.dir, "grants-output"), cwd: lab.dir });
}

async function tokenOf(url: string): Promise<string> {
  const answer = await fetch(`${url}/token/closed`, { headers: { authorization: LOGIN } });
  if (answer.status !== 200) throw new Error(`expected a token, got ${answer.status}`);
  const { token } = (await answer.json()) as { token: string };
  return token;
}
