/**
 * Stand-ins: other registries of the map that give content by digest when its own registry cannot (docs/operations.md).
 * Wraps the one question that is put to a registry.
 *
 * Promises: only what everybody may read at its own registry is named to a stand-in, in nobody's name, and only by digest;
 * an answer that is not the content in question is as if none had been asked. Whoever takes the body verifies it. A stand-in is
 * never stood in for, so that two which name each other end.
 */
import { UpstreamError } from "../errors.ts";
import { type Digest, isVerifiable, parseDigest } from "../registry/digest.ts";
import { bareType, isManifestType, isSchema1Type } from "../registry/mediatype.ts";
import { isServed, matchesAny } from "../registry/pattern.ts";
import type { Registry, StandIn } from "../registry/registry.ts";
import type { UpstreamClient, UpstreamRequest, UpstreamResponse } from "../upstream/client.ts";
import { isPublicByDefinition, type PublicRepositories } from "./public-repositories.ts";

export interface StandInKnowledge {
  /** The registry of a key, by the map in force. */
  readonly registryOf: (key: string) => Registry | undefined;
  /** Whether the cache remembers that everybody may read this; false without a cache. */
  readonly isOpenToAll: (asked: Asked) => boolean;
  /** Whether clients push there: they ask by HEAD what they may leave out, and only the registry itself can say. */
  readonly takesWrites: (registry: Registry) => boolean;
  /** Told when `by` answered in place of `registry`; both are keys of the map. */
  readonly answered: (registry: string, by: string) => void;
}

export interface StandInDependencies extends Partial<StandInKnowledge> {
  readonly upstream: Pick<UpstreamClient, "send">;
  readonly publicRepositories: Pick<PublicRepositories, "isPublicAt">;
}

export interface StandInRequest extends UpstreamRequest {
  /**
   * Whether stand-ins are asked: `after` the registry gave nothing; `first` when it begins and never ends; `never` for what
   * nobody verifies, or what is asked for to know about the registry. Default `after`.
   */
  readonly standIns?: "after" | "first" | "never" | undefined;
  /** What the client's own request was: a HEAD may become a GET here, and a GET a HEAD. */
  readonly clientMethod?: string | undefined;
}

export interface StandInAnswer extends UpstreamResponse {
  /** Another registry's answer: it proves nothing about the one that was asked. */
  readonly isStandIn: boolean;
}

export interface StandIns {
  /**
   * Asks the registry, and where it cannot give content by digest its stand-ins. Its own answer or failure is what comes back when
   * none of them has it. @throws as `UpstreamClient.send`
   */
  send(request: StandInRequest): Promise<StandInAnswer>;
}

type Asked = Pick<UpstreamRequest, "registry" | "repository">;

interface Candidate {
  readonly registry: Registry;
  readonly repository: string;
}

/** What is left for stand-ins of the time for one question: enough for a connection, a token and the headers. */
const RESERVED_MS = 5_000;

export function createStandIns(dependencies: StandInDependencies): StandIns {
  const { upstream, publicRepositories } = dependencies;
  const { registryOf = () => undefined, isOpenToAll = () => false, answered = () => undefined } = dependencies;
  const { takesWrites = () => false } = dependencies;

  /** What is asked besides the registry, in this order; none where the question must not be known elsewhere. */
  function candidatesFor(request: StandInRequest): Candidate[] {
    const { registry, repository, path, standIns, transfer } = request;
    if (registry.standIns.length === 0 || standIns === "never" || transfer === "if-free") return [];
    if (request.clientMethod === "HEAD" && takesWrites(registry)) return [];
    if (digestIn(path) === undefined || !mayBeTold(request)) return [];
    return registry.standIns.flatMap((standIn) => candidateOf(standIn, repository) ?? []);
  }

  function candidateOf({ key, prefix, repositories }: StandIn, home: string): Candidate | undefined {
    const registry = registryOf(key);
    const repository = `${prefix}${home}`;
    const isFor = repositories.length === 0 || matchesAny(repositories, home);
    return registry !== undefined && isFor && isServed(registry, repository) ? { registry, repository } : undefined;
  }

  /**
   * Whether everybody may read it at its own registry. Where there are several upstreams, what one of them shows is not what
   * the first would: then the first must have shown it lately.
   */
  function mayBeTold(request: UpstreamRequest): boolean {
    const { registry, onlyOrigin } = request;
    if (isPublicByDefinition(request)) return true;
    if (onlyOrigin !== undefined) return false;
    if (publicRepositories.isPublicAt(registry.upstreams[0].origin, request)) return true;
    return registry.upstreams.length === 1 && isOpenToAll(request);
  }

  /** The first stand-in's answer that is the content; undefined when none has it. */
  async function askInstead(request: UpstreamRequest, candidates: readonly Candidate[]) {
    for (const { registry, repository } of candidates) {
      if (performance.now() >= request.deadlineMs) return undefined;
      const response = await upstream
        .send({
          ...request,
          registry,
          repository,
          identity: { kind: "anonymous" },
          instead: undefined,
          onlyOrigin: undefined,
        })
        .catch(orNothing);
      if (response === undefined) continue;
      if (isContent(response, request)) {
        answered(request.registry.key, registry.key);
        return response;
      }
      await response.body?.cancel();
    }
    return undefined;
  }

  async function askAfter(request: UpstreamRequest, candidates: readonly Candidate[]): Promise<StandInAnswer> {
    try {
      const response = await upstream.send({ ...request, deadlineMs: earlier(request.deadlineMs) });
      const instead = isTrouble(response) ? await askInstead(request, candidates) : undefined;
      if (instead === undefined) return { ...response, isStandIn: false };
      await response.body?.cancel();
      return { ...instead, isStandIn: true };
    } catch (error) {
      // Our own bound is no failure of the registry.
      if (!(error instanceof UpstreamError) || error.kind === "overload") throw error;
      const instead = await askInstead(request, candidates);
      if (instead === undefined) throw error;
      return { ...instead, isStandIn: true };
    }
  }

  return {
    async send({ standIns, clientMethod, ...request }) {
      const candidates = candidatesFor({ ...request, standIns, clientMethod });
      if (standIns !== "first" && candidates.length > 0) return askAfter(request, candidates);
      const before = await askInstead({ ...request, deadlineMs: earlier(request.deadlineMs) }, candidates);
      return before === undefined
        ? { ...(await upstream.send(request)), isStandIn: false }
        : { ...before, isStandIn: true };
    },
  };
}

/** What is asked for, if it is content by a digest that can be verified. */
function digestIn(path: string): Digest | undefined {
  const digest = parseDigest(/^(?:manifests|blobs)\/(.+)$/.exec(path)?.[1] ?? "");
  return digest !== undefined && isVerifiable(digest) ? digest : undefined;
}

/** When the registry must have answered: where time is short, stand-ins get what it leaves. */
function earlier(deadlineMs: number): number {
  const leftMs = deadlineMs - performance.now();
  return leftMs > 2 * RESERVED_MS ? deadlineMs - RESERVED_MS : deadlineMs;
}

/** No verdict about the content. 508 says that a request went in a circle: it must not go on from here (protocol R147). */
function isTrouble({ status }: UpstreamResponse): boolean {
  return status === 429 || (status >= 500 && status !== 508);
}

function orNothing(error: unknown): undefined {
  if (error instanceof UpstreamError) return undefined;
  throw error;
}

/** A page, a refusal or another content is none; nor is what carries a digest that its bytes do not have (protocol R217). */
function isContent({ status, headers, body }: UpstreamResponse, asked: UpstreamRequest): boolean {
  const { method, path } = asked;
  const isPart = status === 206 && asked.headers.some(([name]) => name.toLowerCase() === "range");
  if (status !== 200 && !isPart) return false;
  if (method === "GET" && body === null) return false;
  const told = headers.get("docker-content-digest");
  const digest = digestIn(path);
  const isOther = told !== null && parseDigest(told)?.algorithm === digest?.algorithm && told !== digest?.text;
  if (isOther) return false;
  const type = bareType(headers.get("content-type"));
  return path.startsWith("blobs/") ? type !== "text/html" : isManifestType(type) && !isSchema1Type(type);
}
