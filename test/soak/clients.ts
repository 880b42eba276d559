/**
 * The clients of a soak, all at once: strict pulls, clients that leave, clients that read slowly or not at all, pushes, lists,
 * ranges, tags that do not exist, requests that are none. What is wrong is gathered; what fails because the weather is bad is
 * counted.
 */
import type { ChaosImage } from "../chaos/catalogue.ts";
import { createPuller, type Findings } from "../chaos/puller.ts";
import { pushImage } from "../clients/push.ts";
import { layerOf } from "../support/farm.ts";
import { makeImage } from "../support/images.ts";
import { openRaw } from "../support/raw-http.ts";

export interface SoakClients {
  /** Of the pulls of each registry. */
  readonly findings: readonly Findings[];
  /** Requests and rounds of all kinds, by what they were and how they ended: `"slow reader: ended"`. */
  readonly counts: Readonly<Record<string, number>>;
  /** Ends the rounds that run, and waits for them. */
  stop(): Promise<void>;
}

export interface SoakClientOptions {
  /** `"127.0.0.1:41234"`: TLS and, for this machine, plain HTTP. */
  readonly host: string;
  readonly images: readonly ChaosImage[];
  readonly random: () => number;
}

/** So many of each. */
const PULLERS = 4;
const LEAVERS = 2;
const SLOW_READERS = 3;
/** Between two rounds of one client: the machine is not to be used up, or only that is measured. */
const PAUSE_MS = 60;
/** Contents that are pushed again and again: the registries keep them all. */
const PUSHED_IMAGES = 12;
const BACK_OFF_MS = 400;

export function startClients({ host, images, random }: SoakClientOptions): SoakClients {
  const counts: Record<string, number> = {};
  const end = new AbortController();
  const plain = `http://${host}`;
  let hubToken = "";

  function count(what: string): void {
    counts[what] = (counts[what] ?? 0) + 1;
  }

  function ask(path: string, init: { headers?: Record<string, string>; method?: string; signal?: AbortSignal }) {
    count("requests");
    const isSecure = random() < 0.5;
    const login = path.startsWith("/v2/hub/") ? { authorization: `Bearer ${hubToken}` } : undefined;
    return fetch(`${isSecure ? "https" : "http"}://${host}${path}`, {
      ...init,
      headers: { ...init.headers, ...login },
      redirect: "manual",
      decompress: false,
      keepalive: random() < 0.7,
      ...(isSecure && { tls: { rejectUnauthorized: false } }),
    });
  }

  const pullers = ["quay", "hub"].map((registry) => createPuller({ ask, random, registry, backOffMs: BACK_OFF_MS }));

  async function pull(): Promise<void> {
    const [quay, hub] = pullers;
    // The first token comes a moment after the first pulls.
    await (random() < 0.7 || hubToken === "" ? quay : hub)?.pull(pick(images));
  }

  async function leave(): Promise<void> {
    const leaving = new AbortController();
    const isEarly = random() < 0.3;
    const answer = ask(blobPath(), { signal: leaving.signal });
    if (isEarly) setTimeout(() => leaving.abort(), 100 * random());
    const reader = (await answer).body?.getReader();
    await reader?.read();
    leaving.abort();
    await reader?.cancel();
  }

  /** Reads a piece now and then for some seconds; then the rest, or nothing more, or it breaks the connection. */
  async function readSlowly(): Promise<void> {
    const connection = await openRaw(plain);
    try {
      connection.send(`GET ${blobPath()} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      const stall = random() < 0.4 ? 3000 : 150;
      for (let turn = 0; turn < 12 && !end.signal.aborted; turn++) {
        connection.resume();
        if ((await connection.read(32_768)).length < 32_768) return;
        connection.pause();
        await sleep(stall * random());
      }
    } finally {
      if (random() < 0.5) connection.reset();
      else connection.end();
    }
  }

  async function push(): Promise<void> {
    const number = Math.floor(random() * PUSHED_IMAGES);
    const image = makeImage({ seed: `pushed ${number}`, layers: [200_000 + number, 1_500_000 + number] });
    if (random() < 0.3) {
      const upload = await fetch(`${plain}/v2/quay/push/begun/blobs/uploads/`, { method: "POST" });
      await upload.body?.cancel();
      return;
    }
    await pushImage(plain, `quay/push/image${number}`, image);
  }

  async function askOther(): Promise<void> {
    const { repository } = pick(images);
    const range = { range: `bytes=${Math.floor(random() * 5000)}-${5000 + Math.floor(random() * 50_000)}` };
    const [path, init = {}] = pick<[string, { method?: string; headers?: Record<string, string> }?]>([
      [`/v2/quay/${repository}/manifests/latest`, { method: "HEAD" }],
      [`/v2/quay/${repository}/manifests/no-${Math.floor(random() * 50)}`],
      [`/v2/quay/${repository}/tags/list`],
      [`/v2/quay/${repository}/referrers/sha256:${"0".repeat(64)}`],
      [blobPath(), { headers: range }],
      [blobPath(), { method: "HEAD" }],
      ["/v2/"],
      ["/healthz"],
      ["/readyz"],
      ["/help"],
      ["/v2/quay/%2e%2e/manifests/latest"],
      ["/token/hub?scope=repository:chaos/image0:pull"],
    ]);
    const answer = await ask(path, { ...init, signal: AbortSignal.timeout(40_000) });
    await answer.arrayBuffer();
    count(`other: ${answer.status}`);
  }

  /** Our anonymous tokens live an hour. */
  async function renewToken(): Promise<void> {
    const answer = await fetch(`${plain}/token/hub?scope=repository:chaos/image0:pull`);
    hubToken = ((await answer.json()) as { token: string }).token;
    await sleep(600_000);
  }

  function blobPath(): string {
    const { repository, image } = pick(images);
    return `/v2/quay/${repository}/blobs/${layerOf(image)}`;
  }

  function pick<T>(values: readonly T[]): T {
    const value = values[Math.floor(random() * values.length)];
    if (value === undefined) throw new Error("expected something to pick from");
    return value;
  }

  function sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        end.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      end.signal.addEventListener("abort", done);
    });
  }

  async function repeat(what: string, round: () => Promise<void>): Promise<void> {
    while (!end.signal.aborted) {
      // What fails here fails with the weather: what must not be wrong is judged by the pullers.
      await round().then(
        () => count(`${what}: ended`),
        () => count(`${what}: broke`),
      );
      await sleep(PAUSE_MS * (0.5 + random()));
    }
  }

  const kinds: [what: string, number: number, round: () => Promise<void>][] = [
    ["token", 1, renewToken],
    ["pull", PULLERS, pull],
    ["leaver", LEAVERS, leave],
    ["slow reader", SLOW_READERS, readSlowly],
    ["push", 1, push],
    ["other", 2, askOther],
  ];
  const running = kinds.flatMap(([what, number, round]) => Array.from({ length: number }, () => repeat(what, round)));
  return {
    findings: pullers.map(({ findings }) => findings),
    counts,
    async stop() {
      end.abort();
      await Promise.all(running);
    },
  };
}
