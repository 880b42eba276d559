/**
 * Where redirects of a fake registry lead: a server on its own port that knows signed URLs and nothing of registries.
 * It answers 400 to Authorization, as S3 does when two ways of signing meet (protocol R131, R149).
 */
import { createHash } from "node:crypto";
import { deliver, utf8, type Delivery, type Plan } from "./fake-delivery.ts";
import { faultsFor, type CdnFaults, type Faults } from "./fake-faults.ts";
import type { RequestLog } from "./request-log.ts";
import { createWireServer, type WireRequest, type WireServer, type WireServerOptions } from "./wire-server.ts";

export interface FakeCdn extends WireServer {
  /** A URL that delivers this plan after `hops` more redirects, until `expireUrls()`. */
  sign(plan: Plan, method: string, hops: number): string;
  /** Every URL made so far answers 403 from now on (lesson T24). */
  expireUrls(): void;
  forget(): void;
}

interface Signed {
  readonly plan: Plan;
  readonly method: string;
  isExpired: boolean;
}

export interface FakeCdnParts {
  readonly faults: () => Faults;
  readonly log: RequestLog;
  readonly delivery: Delivery;
  /** Uploads that go on here; undefined for any other request. */
  readonly uploads: (request: WireRequest) => Plan | undefined;
}

/** Signed URLs of one test run; the oldest go first. */
const MAX_URLS = 10_000;

export async function createFakeCdn(options: WireServerOptions, parts: FakeCdnParts): Promise<FakeCdn> {
  const signed = new Map<string, Signed>();
  let serial = 0;
  const server = await createWireServer(options, async (request, answer) => {
    parts.log.add(request);
    const faults = faultsFor(parts.faults().cdn, request);
    await deliver(
      { request, answer },
      answerFor(request, { signed, faults, uploads: parts.uploads }),
      faults,
      parts.delivery,
    );
  });
  return {
    ...server,
    sign(plan, method, hops) {
      const key = createHash("sha256").update(`url ${serial++}`).digest("hex").slice(0, 24);
      signed.set(key, { plan, method, isExpired: false });
      const [oldest] = signed.keys();
      if (signed.size > MAX_URLS && oldest !== undefined) signed.delete(oldest);
      return urlFor(server.url, hops, key);
    },
    expireUrls() {
      for (const entry of signed.values()) entry.isExpired = true;
    },
    forget: () => signed.clear(),
  };
}

function urlFor(base: string, hops: number, key: string): string {
  return `${base}/${hops}/${key}?X-Amz-Signature=${key}&X-Amz-Expires=300`;
}

interface Known extends Pick<FakeCdnParts, "uploads"> {
  readonly signed: Map<string, Signed>;
  readonly faults: CdnFaults;
}

function answerFor(request: WireRequest, { signed, faults, uploads }: Known): Plan {
  if (request.headers.has("authorization")) return plain(400, "Only one auth mechanism allowed");
  const upload = uploads(request);
  if (upload !== undefined) return upload;
  if (request.method !== "GET" && request.method !== "HEAD") return plain(405, "MethodNotAllowed");
  const [, hops = "", key = ""] = /^\/(\d+)\/([0-9a-f]+)$/.exec(request.path) ?? [];
  const entry = signed.get(key);
  if (entry === undefined || !request.query.includes(`X-Amz-Signature=${key}`))
    return plain(403, "SignatureDoesNotMatch");
  if (entry.isExpired) return plain(403, "Request has expired");
  if (faults.methodBound && request.method !== entry.method) return plain(403, "SignatureDoesNotMatch");
  if (faults.refusesMultiRange && (request.headers.get("range") ?? "").includes(","))
    return plain(400, "multiple ranges");
  if (Number(hops) > 0) {
    const next = `/${Number(hops) - 1}/${key}?${request.query}`; // path-absolute on purpose: relative hops on the CDN itself
    return { status: 302, lines: [["Location", next]], body: new Uint8Array() };
  }
  return entry.plan;
}

function plain(status: number, text: string): Plan {
  return { status, lines: [["Content-Type", "application/xml"]], body: utf8(`<Error><Code>${text}</Code></Error>`) };
}
