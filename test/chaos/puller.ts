/**
 * A client as strict as a bad network wants it: it pulls whole images, tag → index → manifest → config and layers, three
 * blobs at a time, tries each content five times as dockerd does, goes on where a body broke or begins anew, and holds every
 * body that ended well against what the registry has. What it finds is gathered, not thrown: a run ends with a report.
 */
import type { Image, StoredManifest } from "../support/images.ts";
import type { ChaosImage } from "./catalogue.ts";

export interface PullerOptions {
  /** One request to Layover. */
  readonly ask: (path: string, init: { headers: Record<string, string>; signal: AbortSignal }) => Promise<Response>;
  readonly random: () => number;
  /** Key of the registry that has the images; default `"quay"`. */
  readonly registry?: string;
  /** The wait before the second attempt, twice that before the third, and so on; default 5 s. */
  readonly backOffMs?: number;
}

export interface Findings {
  /** Pulls that were begun, and that ended with every byte right. */
  pulls: number;
  whole: number;
  /** Pulls that were given up, with the last answer. */
  readonly failed: string[];
  /** Bytes that are not the content's, delivered as if they were; statuses and headers that do not fit. */
  readonly wrong: string[];
  /** Waits beyond the deadlines. */
  readonly hangs: string[];
  /** Why contents were asked for again, and how often. */
  readonly problems: Record<string, number>;
  /** Contents that were asked for again. */
  retries: number;
  /** Bytes of right contents. */
  bytes: number;
  slowestHeadMs: number;
  slowestPullMs: number;
}

export interface Puller {
  readonly findings: Findings;
  pull(image: ChaosImage): Promise<void>;
}

/** What is fetched, and what it must be. */
interface Wanted {
  readonly path: string;
  readonly digest: string;
  readonly bytes: Uint8Array;
  readonly mediaType: string | undefined;
}

const ATTEMPTS = 5;
const BLOBS_AT_ONCE = 3;
/** Layover promises the head within 25 seconds. */
const HEAD_DEADLINE_MS = 26_000;
/** Silence of a body: five tries of its own with their waits, each ended by an idle time of a second (`ARGS` of world.ts). */
const SILENCE_DEADLINE_MS = 26_000;
/** As dockerd waits: 5, 10, 15, 20 seconds. A registry that is known dead is asked again within that time. */
const BACK_OFF_MS = 5000;
const ACCEPT = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");

export function createPuller({ ask, random, registry = "quay", backOffMs = BACK_OFF_MS }: PullerOptions): Puller {
  const findings: Findings = {
    pulls: 0,
    whole: 0,
    failed: [],
    wrong: [],
    hangs: [],
    problems: {},
    retries: 0,
    bytes: 0,
    slowestHeadMs: 0,
    slowestPullMs: 0,
  };

  async function pull({ repository, image }: ChaosImage): Promise<void> {
    findings.pulls += 1;
    const began = performance.now();
    try {
      const base = `/v2/${registry}/${repository}`;
      await fetchContent(manifest(`${base}/manifests/latest`, image, image.digest));
      const member = pick(membersOf(image));
      if (member !== image.digest) await fetchContent(manifest(`${base}/manifests/${member}`, image, member));
      const blobs = blobsOf(image, member);
      const next = async (): Promise<void> => {
        for (let digest = blobs.shift(); digest !== undefined; digest = blobs.shift()) {
          const bytes = image.blobs.get(digest) ?? new Uint8Array();
          await fetchContent({ path: `${base}/blobs/${digest}`, digest, bytes, mediaType: undefined });
        }
      };
      await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, next));
      findings.whole += 1;
    } catch (error) {
      if (!(error instanceof GivenUp)) throw error;
      findings.failed.push(error.message);
    }
    findings.slowestPullMs = Math.max(findings.slowestPullMs, performance.now() - began);
  }

  /** @throws GivenUp after the last attempt */
  async function fetchContent(wanted: Wanted): Promise<void> {
    const resumes = random() < 0.7; // dockerd and containerd do; podman of Debian 12 begins anew
    let got: Buffer = Buffer.alloc(0);
    let last = "";
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (attempt > 1) {
        findings.retries += 1;
        await new Promise((resolve) => setTimeout(resolve, backOffMs * (attempt - 1)));
      }
      const tried = await tryOnce(wanted, resumes ? got : Buffer.alloc(0));
      if (tried.isWhole) {
        findings.bytes += tried.got.length;
        return;
      }
      got = tried.got;
      last = tried.problem;
      findings.problems[last] = (findings.problems[last] ?? 0) + 1;
    }
    throw new GivenUp(`${wanted.path}: ${last}`);
  }

  interface Tried {
    readonly isWhole: boolean;
    readonly got: Buffer;
    readonly problem: string;
  }

  async function tryOnce(wanted: Wanted, before: Buffer): Promise<Tried> {
    const broken = (problem: unknown, got = before): Tried => ({ isWhole: false, got, problem: textOf(problem) });
    const watch = createWatch(wanted.path, findings.hangs);
    const pieces: Buffer[] = [before];
    try {
      const headers = {
        ...(wanted.mediaType !== undefined && { accept: ACCEPT }),
        ...(before.length > 0 && { range: `bytes=${before.length}-` }),
      };
      const began = performance.now();
      const answer = await watch.within(HEAD_DEADLINE_MS, "no head", () =>
        ask(wanted.path, { headers, signal: watch.signal }),
      );
      findings.slowestHeadMs = Math.max(findings.slowestHeadMs, performance.now() - began);
      const isPart = answer.status === 206 && before.length > 0;
      if (answer.status !== 200 && !isPart)
        return broken(await watch.within(SILENCE_DEADLINE_MS, "silence", () => refusal(wanted, answer)));
      if (!isPart) pieces.length = 0; // the whole again
      judgeHead(wanted, answer, isPart ? before.length : 0);
      const reader = answer.body?.getReader();
      for (;;) {
        const step = await watch.within(SILENCE_DEADLINE_MS, "silence", async () => reader?.read());
        if (step === undefined || step.done) break;
        pieces.push(Buffer.from(step.value));
      }
    } catch (error) {
      return broken(error, Buffer.concat(pieces));
    } finally {
      watch.end();
    }
    const got = Buffer.concat(pieces);
    const from = pieces[0] === before ? before.length : 0;
    if (!got.subarray(from).equals(wanted.bytes.subarray(from)))
      findings.wrong.push(`${wanted.path}: ${differences(got, wanted.bytes)} in a whole answer from byte ${from} on`);
    // What a broken body brought may be wrong: nobody said that it was whole. The next attempt begins anew, as in dockerd.
    if (!got.equals(wanted.bytes)) return broken("wrong bytes", Buffer.alloc(0));
    return { isWhole: true, got, problem: "" };
  }

  function judgeHead({ path, digest, bytes, mediaType }: Wanted, { headers }: Response, offset: number): void {
    const expected = {
      "content-length": String(bytes.length - offset),
      "docker-content-digest": digest,
      ...(mediaType !== undefined && { "content-type": mediaType }),
      ...(offset > 0 && { "content-range": `bytes ${offset}-${bytes.length - 1}/${bytes.length}` }),
    };
    for (const [name, value] of Object.entries(expected)) {
      const given = headers.get(name);
      if (given !== value) findings.wrong.push(`${path}: expected ${name} ${value}, got ${given}`);
    }
  }

  async function refusal({ path }: Wanted, answer: Response): Promise<string> {
    const told = `${answer.status} ${(await answer.text()).slice(0, 200)}`;
    // All else would end the pull of a client that asks for what is there.
    if (![429, 502, 503, 504].includes(answer.status)) findings.wrong.push(`${path}: ${told}`);
    return told;
  }

  function pick<T>(values: readonly T[]): T {
    const value = values[Math.floor(random() * values.length)];
    if (value === undefined) throw new Error("expected something to pick from");
    return value;
  }

  return { findings, pull };
}

class GivenUp extends Error {}

/** Ends what takes longer than it may, and says so. */
function createWatch(path: string, hangs: string[]) {
  const ender = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  return {
    signal: ender.signal,
    async within<T>(ms: number, what: string, wait: () => Promise<T>): Promise<T> {
      timer = setTimeout(() => {
        hangs.push(`${path}: ${what} within ${ms} ms`);
        ender.abort(new Error(what));
      }, ms);
      try {
        return await wait();
      } finally {
        clearTimeout(timer);
      }
    },
    end() {
      ender.abort(new Error("over"));
    },
  };
}

function manifest(path: string, image: Image, digest: string): Wanted {
  const { bytes, mediaType } = manifestOf(image, digest);
  return { path, digest, bytes, mediaType };
}

function manifestOf(image: Image, digest: string): StoredManifest {
  const found = image.manifests.get(digest);
  if (found === undefined) throw new Error(`expected a manifest ${digest}`);
  return found;
}

interface ManifestText {
  readonly manifests?: readonly { readonly digest: string }[];
  readonly config?: { readonly digest: string };
  readonly layers?: readonly { readonly digest: string }[];
}

function read(image: Image, digest: string): ManifestText {
  return JSON.parse(new TextDecoder().decode(manifestOf(image, digest).bytes)) as ManifestText;
}

/** The manifests that an index names, or the image's own. */
function membersOf(image: Image): string[] {
  return read(image, image.digest).manifests?.map(({ digest }) => digest) ?? [image.digest];
}

function blobsOf(image: Image, digest: string): string[] {
  const { config, layers = [] } = read(image, digest);
  return [...(config === undefined ? [] : [config]), ...layers].map((each) => each.digest);
}

function differences(got: Buffer, wanted: Uint8Array): string {
  if (got.length !== wanted.length) return `${got.length} bytes instead of ${wanted.length}`;
  return `wrong bytes at ${[...got.keys()]
    .filter((at) => got[at] !== wanted[at])
    .slice(0, 5)
    .join(", ")}`;
}

function textOf(problem: unknown): string {
  return problem instanceof Error ? problem.message : String(problem);
}
