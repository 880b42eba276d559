/**
 * What `layover check` says of tokens and pulls: whether a registry's token server gives any, and how many pulls an account has left
 * at Docker Hub, which tells it with every manifest.
 */
import { UpstreamError } from "../errors.ts";
import type { Registry, Upstream } from "../registry/registry.ts";
import type { Identity, UpstreamClient, UpstreamRequest } from "../upstream/client.ts";
import { type ToldQuota, toldQuota } from "../upstream/quota-headers.ts";
import type { Finding } from "./finding.ts";

/** That it is not there is an answer: who asks has a token then, or needs none. */
const ANY_REPOSITORY = "layover/check";
/** Docker's own for this question (protocol R213). HEAD of it costs no pull. */
const REPOSITORY = "ratelimitpreview/test";
/** It is asked beside others, and nothing depends on it. */
const PATIENCE_MS = 10_000;

/** `"180 of 200 pulls left"`; undefined where the registry does not say, or says that there is no limit. */
export async function pullsLeft(
  client: UpstreamClient,
  registry: Registry,
  identity: Identity,
): Promise<string | undefined> {
  const told = registry.isDockerHub ? await askQuota(client, registry, identity) : undefined;
  return told === undefined || typeof told === "string" ? told : `${told.remaining} of ${told.limit} pulls left`;
}

/** Why nobody gets a token of this upstream's token server; undefined when one came, or the server says who may have one. */
export async function tokenTrouble(
  client: UpstreamClient,
  registry: Registry,
  { origin }: Upstream,
): Promise<string | undefined> {
  try {
    await head(client, { registry, repository: ANY_REPOSITORY, identity: { kind: "anonymous" }, onlyOrigin: origin });
    return undefined;
  } catch (error) {
    const isTokens = error instanceof UpstreamError && error.kind === "token" && error.status !== 429;
    return isTokens ? error.message : undefined; // what else is wrong is another line's matter
  }
}

/** Nobody's pulls, counted by address: with them a repository begins. One line, or none. */
export async function checkAnonymousQuota(client: UpstreamClient, registry: Registry): Promise<Finding[]> {
  const text = await pullsLeft(client, registry, { kind: "anonymous" });
  if (text === undefined) return [];
  return [{ verdict: verdictOn(text), subject: registry.key, text: `without a login, from this address: ${text}` }];
}

/** @param text of `pullsLeft` */
export function verdictOn(text: string | undefined): "ok" | "warn" {
  return text?.startsWith("0 ") === true || text?.startsWith("limited") === true ? "warn" : "ok";
}

async function askQuota(
  client: UpstreamClient,
  registry: Registry,
  identity: Identity,
): Promise<ToldQuota | string | undefined> {
  try {
    return toldQuota(await head(client, { registry, repository: REPOSITORY, identity }));
  } catch (error) {
    if (error instanceof UpstreamError && error.status === 429) return `limited for ${error.retryAfter ?? "?"} s`;
    return undefined; // whether it can be reached is another line's matter
  }
}

type Asked = Pick<UpstreamRequest, "registry" | "repository" | "identity" | "onlyOrigin">;

async function head(client: UpstreamClient, asked: Asked): Promise<Headers> {
  const { headers, body } = await client.send({
    ...asked,
    method: "HEAD",
    path: "manifests/latest",
    query: "",
    headers: [],
    signal: AbortSignal.timeout(PATIENCE_MS),
    deadlineMs: performance.now() + PATIENCE_MS,
  });
  await body?.cancel();
  return headers;
}
