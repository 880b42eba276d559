/**
 * Everything at once, for as long as the program lives: tags that move, warm and cold blobs, ranges, HEADs, and `prune`
 * beside them. What is asked follows from a seed; every answer is checked against what the registry holds.
 */
import path from "node:path";
import type { Cached } from "./cached.ts";
import { layerOf } from "./farm.ts";
import { type Image, digestOf, makeImage } from "./images.ts";

export interface MixedLoad {
  /** Repositories with all images their tag ever led to, the last one now. */
  readonly repositories: ReadonlyMap<string, readonly Image[]>;
  /** What was wrong: a status, wrong bytes, a broken body of a program that lives. */
  readonly wrong: readonly string[];
  /** Answers that came to their end, by what was asked. */
  readonly answered: Readonly<Record<string, number>>;
  /** Kills the program with the piece that makes so many bytes of answers; resolves when every client noticed. */
  run(killAtBytes: number): Promise<void>;
}

const REPOSITORIES = 6;
const WORKERS = 8;
const LAYERS = [2_500_000, 150_000];
/** All images share their large layer with the next ones of their line: a new line begins with every so many moves. */
const LINE = 4;

export function createMixedLoad(cached: Cached, random: () => number): MixedLoad {
  const repositories = new Map<string, Image[]>();
  const wrong: string[] = [];
  const answered: Record<string, number> = {};
  for (let number = 0; number < REPOSITORIES; number++) move(`org/mixed${number}`);

  /** The tag leads to a new image from now on. */
  function move(repository: string): void {
    const images = repositories.get(repository) ?? [];
    const [base = 0, top = 0] = LAYERS;
    const seed = `${repository}/${Math.floor(images.length / LINE)}`;
    const image = makeImage({ seed, layers: [base, top + images.length] });
    cached.farm.quay.add(repository, image);
    repositories.set(repository, [...images, image]);
  }

  function pick<T>(values: readonly T[]): T {
    const value = values[Math.floor(random() * values.length)];
    if (value === undefined) throw new Error("expected something to pick from");
    return value;
  }

  async function run(killAtBytes: number): Promise<void> {
    const { layover } = cached;
    const asking = new Set<{ repository: string; since: number }>();
    let received = 0;
    let isKilled = false;

    function count(bytes: number): void {
      received += bytes;
      if (isKilled || received < killAtBytes) return;
      isKilled = true;
      layover.signal("SIGKILL");
    }

    /** The whole body; undefined when the kill cut it. */
    async function ask(
      target: string,
      init: RequestInit = {},
    ): Promise<{ answer: Response; body: Buffer } | undefined> {
      const pieces: Uint8Array[] = [];
      try {
        const answer = await cached.ask(target, init);
        for await (const piece of answer.body ?? []) {
          pieces.push(piece);
          count(piece.byteLength);
        }
        const body = Buffer.concat(pieces);
        const told = Number(answer.headers.get("content-length"));
        if (answer.status < 300 && init.method !== "HEAD" && body.byteLength < told) throw new Error("a short body");
        return { answer, body };
      } catch (error) {
        // What the kill cut is no answer; anything else that is cut is wrong.
        if (!isKilled) wrong.push(`${target}: ${error instanceof Error ? error.message : String(error)}`);
        return undefined;
      }
    }

    function judge(what: string, target: string, isRight: boolean): void {
      answered[what] = (answered[what] ?? 0) + 1;
      if (!isRight) wrong.push(`${what} ${target}`);
    }

    async function pullTag(repository: string, method: "GET" | "HEAD"): Promise<void> {
      const target = `/v2/quay/${repository}/manifests/latest`;
      const question = { repository, since: (repositories.get(repository)?.length ?? 0) - 1 };
      // Who asks while others do shares the answer to their question, which may be older than a move in between.
      const shared = [...asking].filter((other) => other.repository === repository).map(({ since }) => since);
      asking.add(question);
      const got = await ask(target, { method }).finally(() => asking.delete(question));
      if (got === undefined) return;
      const isStale = got.answer.headers.get("x-cache") === "STALE";
      const since = isStale ? 0 : Math.min(question.since, ...shared);
      const versions = (repositories.get(repository) ?? []).map(({ digest }) => digest);
      const digest = method === "HEAD" ? (got.answer.headers.get("docker-content-digest") ?? "") : digestOf(got.body);
      const version = versions.indexOf(digest);
      const state = `${got.answer.status} ${got.answer.headers.get("x-cache")} version ${version} since ${since}`;
      judge(`${method} tag`, `${target}: ${state}`, got.answer.status === 200 && version >= since);
    }

    async function pullBlob(repository: string): Promise<void> {
      const [digest, bytes] = pick([...pick(repositories.get(repository) ?? []).blobs]);
      const target = `/v2/quay/${repository}/blobs/${digest}`;
      const got = await ask(target);
      if (got === undefined) return;
      const what = got.answer.headers.get("x-cache") === "HIT" ? "warm blob" : "cold blob";
      judge(what, `${target}: ${got.answer.status}`, got.answer.status === 200 && got.body.equals(bytes));
    }

    async function pullRange(repository: string): Promise<void> {
      const image = pick(repositories.get(repository) ?? []);
      const digest = layerOf(image);
      const bytes = image.blobs.get(digest) ?? new Uint8Array();
      const first = Math.floor(random() * bytes.byteLength);
      const last = first + Math.floor(random() * (bytes.byteLength - first));
      const target = `/v2/quay/${repository}/blobs/${digest}`;
      const got = await ask(target, { headers: { range: `bytes=${first}-${last}` } });
      if (got === undefined) return;
      const isRight = got.answer.status === 206 && got.body.equals(bytes.subarray(first, last + 1));
      judge("range", `${target} ${first}-${last}: ${got.answer.status}`, isRight);
    }

    async function prune(): Promise<void> {
      const unix = path.join(cached.directory, "admin.sock");
      const answer = await fetch("http://layover/upkeep/prune", { unix, method: "POST", body: "{}" }).catch(
        (error: unknown) => (isKilled ? undefined : wrong.push(`prune: ${String(error)}`), undefined),
      );
      const text = await answer?.text().catch(() => undefined);
      if (text !== undefined) judge("prune", text, answer?.status === 200);
    }

    async function work(): Promise<void> {
      while (!isKilled) {
        const repository = pick([...repositories.keys()]);
        const turn = random();
        if (turn < 0.25) await pullTag(repository, "GET");
        else if (turn < 0.3) await pullTag(repository, "HEAD");
        else if (turn < 0.65) await pullBlob(repository);
        else if (turn < 0.9) await pullRange(repository);
        else if (turn < 0.95) await prune();
        else move(repository);
      }
    }

    // The rarest once in any case: on a slow machine chance may not come to it.
    await Promise.all([prune(), ...Array.from({ length: WORKERS }, work)]);
    await layover.exited;
  }

  return { repositories, wrong, answered, run };
}

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
