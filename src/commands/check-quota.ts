/** What `layover check` says of pulls: how many an account has left at Docker Hub, which tells it with every manifest. */
import { UpstreamError } from "../errors.ts";
import type { Registry } from "../registry/registry.ts";
import type { Identity, UpstreamClient } from "../upstream/client.ts";
import { type ToldQuota, toldQuota } from "../upstream/quota-headers.ts";
import type { Finding } from "./finding.ts";

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

/** Nobody's pulls, counted by address: with them a repository begins. One line, or none. */
export async function checkAnonymousQuota(client: UpstreamClient, registry: Registry): Promise<Finding[]> {
  const text = await pullsLeft(client, registry, { kind: "anonymous" });
  if (text === undefined) return [];
  const verdict = text.startsWith("0 ") || text.startsWith("limited") ? "warn" : "ok";
  return [{ verdict, subject: registry.key, text: `without a login, from this address: ${text}` }];
}

async function askQuota(
  client: UpstreamClient,
  registry: Registry,
  identity: Identity,
): Promise<ToldQuota | string | undefined> {
  try {
    const { headers, body } = await client.send({
      registry,
      repository: REPOSITORY,
      method: "HEAD",
      path: "manifests/latest",
      query: "",
      headers: [],
      identity,
      signal: AbortSignal.timeout(PATIENCE_MS),
      deadlineMs: performance.now() + PATIENCE_MS,
    });
    await body?.cancel();
    return toldQuota(headers);
  } catch (error) {
    if (error instanceof UpstreamError && error.status === 429) return `limited for ${error.retryAfter ?? "?"} s`;
    return undefined; // whether it can be reached is another line's matter
  }
}
