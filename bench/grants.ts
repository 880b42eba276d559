/**
 * What it costs to ask who may read what the cache has: processor time of the server per warm manifest, by tag within its
 * time, so that nothing goes upstream. Three repositories of one registry's content take turns:
 *
 *   library/… of Docker Hub, public by definition   no grant is looked up
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
const REPOSITORIES = { plain: "docker.io", open: "opens.io", closed: "login.io" } as const;
type Kind = keyof typeof REPOSITORIES;

export async function measureGrants(lab: Lab, options: { rounds: number; seconds: number }): Promise<Row[]> {
  if (Bun.which("wrk") === null) return [{ what: "grants", layover: "not measured: wrk is not installed" }];
  using upstream = serveManifests(await Bun.file(join(lab.dir, "manifest")).bytes());
  const layover = await start(lab, upstream.url.origin);
  const token = await tokenOf(layover.url);
  const headers: Record<Kind, string[]> = { plain: [], open: [], closed: [`Authorization: Bearer ${token}`] };
  const microseconds: Record<Kind, number[]> = { plain: [], open: [], closed: [] };
  for (let round = -1; round < options.rounds; round += 1) {
    for (const kind of ["plain", "open", "closed"] as const) {
      const url = `${layover.url}/v2/${REPOSITORIES[kind]}/library/app/manifests/latest`;
      const before = layover.cpuSeconds();
      const { requests } = await load(url, { seconds: options.seconds, headers: headers[kind] });
      const spent = ((layover.cpuSeconds() - before) / requests) * 1e6;
      if (round >= 0) microseconds[kind].push(spent); // the first warms
    }
  }
  await layover.stop();
  const plain = sampleOf(microseconds.plain);
  return [
    { what: "warm manifest, public by definition, µs of processor time", layover: show(plain) },
    rowOf("the same with everybody's grant", sampleOf(microseconds.open), plain),
    rowOf("the same with a login's grant", sampleOf(microseconds.closed), plain),
  ];
}

function rowOf(what: string, sample: Sample, plain: Sample): Row {
  const ratio = ratioOf(sample, plain);
  const text = `${show(sample)}, ${show(ratio, 2)} of the first`;
  return { what, layover: text, goal: { text: `≤ ${GOAL} of the first`, isMet: ratio.median <= GOAL } };
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
    plain: entry("", REPOSITORIES.plain),
    open: entry("/open", REPOSITORIES.open),
    closed: entry("/closed", REPOSITORIES.closed),
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
