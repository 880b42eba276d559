/**
 * A registry in the test's own process: it holds images, counts what it is asked, and misbehaves on command (protocol R283).
 *
 *     const registry = await createFakeRegistry();
 *     registry.add("library/busybox", makeImage({ layers: [1000] }));
 *     registry.faults.blob.cutAfterBytes = 500;
 *     …
 *     expect(registry.count({ method: "GET", path: /\/blobs\// })).toBe(1);
 *     await registry.close();
 *
 * Three ports of loopback: the registry, its token server, its CDN. Nothing sleeps: stalled answers wait for `release()`.
 */
import type { HeaderLine } from "../../src/errors.ts";
import { createFakeAccess, type FakeAccess, type FakeUser } from "./fake-access.ts";
import { createFakeCdn, type FakeCdn } from "./fake-cdn.ts";
import { createFakeContent, parseTarget, type FakeContent, type FakeTarget } from "./fake-content.ts";
import { createGate, deliver, errorBody, utf8, type Plan } from "./fake-delivery.ts";
import { faultsFor, noFaults, type AnswerFaults, type Faults, type Redirect } from "./fake-faults.ts";
import { createFakeQuota, type FakeQuota } from "./fake-quota.ts";
import { createFakeTokenServer } from "./fake-token-server.ts";
import { createFakeUploads } from "./fake-uploads.ts";
import { createFakeWrites, isWrite } from "./fake-writes.ts";
import { createRequestLog, type RecordedRequest, type RequestFilter } from "./request-log.ts";
import { createWireServer, type WireRequest, type WireServer, type WireServerOptions } from "./wire-server.ts";

export interface FakeRegistryOptions extends WireServerOptions {
  /** How clients must authenticate; default none. May be changed later: `registry.auth = …`. */
  auth?: "none" | "bearer" | "basic";
  users?: Record<string, FakeUser>;
  /** Patterns of repositories closed to anonymous clients: exact, `org/**`, `**`. */
  privateRepositories?: string[];
  /** What stands before `/v2` (protocol R145): `"/artifactory/api/docker/hub"`. */
  basePath?: string;
}

export interface FakeRegistry {
  /** `http://127.0.0.1:41234` plus the base path, no slash at the end. */
  readonly url: string;
  /** `127.0.0.1:41234` */
  readonly host: string;
  readonly tokenUrl: string;
  readonly cdnUrl: string;
  auth: "none" | "bearer" | "basic";
  readonly access: FakeAccess;
  /** Pulls that accounts may make; unlimited until a test says otherwise. */
  readonly quota: FakeQuota;
  readonly faults: Faults;
  readonly content: FakeContent;
  /** The latest requests to the registry, to the token server, to the CDN. */
  readonly requests: RecordedRequest[];
  readonly tokenRequests: RecordedRequest[];
  readonly cdnRequests: RecordedRequest[];
  /** Requests to the registry (not the CDN), exactly counted. */
  count(filter?: RequestFilter): number;
  countCdn(filter?: RequestFilter): number;
  /** Resolves when the registry has seen so many matching requests. */
  until(filter: RequestFilter, count: number): Promise<void>;
  /** Body bytes handed to sockets by registry and CDN together. */
  readonly bytesSent: number;
  /** Answers of registry, token server and CDN that are not at their end. */
  readonly openAnswers: number;
  /** Connections that the registry ever accepted. */
  readonly connections: number;
  add(repository: string, image: Parameters<FakeContent["add"]>[1]): void;
  /** Lets every answer that stalls now go on. */
  release(): void;
  /** Resolves when so many answers stall. */
  untilHeld(count: number): Promise<void>;
  /** Requests whose body broke off before its end. */
  countBroken(): number;
  untilBroken(count: number): Promise<void>;
  /** Uploads that were begun and neither finished nor given up. */
  openUploads(): number;
  /** Breaks idle keep-alive connections of registry and CDN (protocol R257). */
  closeIdle(): void;
  /** Registry, token server and CDN refuse connections from now on; answers that are under way go on to their end. */
  goDown(): void;
  expireTokens(): void;
  expireUrls(): void;
  /** Clears faults, counters, tokens and URLs; keeps content and users. */
  reset(): void;
  /** Stops everything. Throws when an answer is still open: something was left unread or waits for ever. */
  close(): Promise<void>;
}

export async function createFakeRegistry(options: FakeRegistryOptions = {}): Promise<FakeRegistry> {
  const faults = noFaults();
  const log = createRequestLog();
  const tokenLog = createRequestLog();
  const cdnLog = createRequestLog();
  const access = createFakeAccess(options.users ?? {}, options.privateRepositories ?? []);
  const quota = createFakeQuota();
  const content = createFakeContent();
  const basePath = options.basePath ?? "";
  let bytesSent = 0;
  const delivery = { gate: createGate(), sent: (bytes: number) => void (bytesSent += bytes) };
  const parts = { faults: () => faults, delivery };
  const uploads = createFakeUploads({ content, urls: () => ({ own: registry.url, storage: cdn.url }) });
  const writes = createFakeWrites({ content, uploads, basePath });
  const broken = createRequestLog();
  const cdn = await createFakeCdn(options, { ...parts, log: cdnLog, uploads: uploads.elsewhere });
  const tokenServer = await createFakeTokenServer(options, { ...parts, access, log: tokenLog });
  const wire: WireServerOptions = {
    ...options,
    interrupt: ({ method, path }) =>
      parseTarget(path.slice(basePath.length))?.kind === "push" && method !== "GET" ? faults.push.interrupt : undefined,
    broken: (head) => broken.add({ ...head, body: new Uint8Array(), at: performance.now() }),
  };
  const server = await createWireServer(wire, async (request, answer) => {
    log.add(request);
    const planned = planFor(request);
    await deliver({ request, answer }, planned.plan, planned.faults, delivery);
  });

  function planFor(request: WireRequest): { plan: Plan; faults: AnswerFaults } {
    const moved = /^\/artifacts-downloads\/(\d+)(\/.*)$/.exec(request.path);
    const path = moved?.[2] ?? request.path;
    const target = path.startsWith(basePath) ? parseTarget(path.slice(basePath.length)) : undefined;
    if (target === undefined)
      return { plan: jsonError(404, "UNSUPPORTED", `no such path ${request.path}`), faults: {} };
    const refusal = refuse(request, target);
    if (refusal !== undefined) return { plan: refusal, faults: {} };
    const counted = target.kind === "manifest" ? quota.ask(userOf(request), request.method) : undefined;
    if (counted?.refusal !== undefined) return { plan: counted.refusal, faults: {} };
    const linkBase = faults.tags.link === "absolute" ? server.url + basePath : basePath;
    const felt = faultsFor(faults[target.kind], request);
    const answer = isWrite(target, request)
      ? writes.answer(target, request, faults.push)
      : content.answer(target, request.query, linkBase);
    const plan = { ...answer, lines: [...answer.lines, ...(counted?.lines ?? [])] };
    const redirect = plan.status === 200 ? felt.redirect : undefined;
    if (redirect === undefined || !(redirect.methods ?? ["GET", "HEAD"]).includes(request.method))
      return { plan, faults: felt };
    if (moved !== null && Number(moved[1]) === 0) return { plan, faults: felt };
    const { redirect: _, framing: __, cutAfterBytes: ___, ...others } = felt;
    return {
      plan: redirectPlan(request, plan, redirect, moved === null ? undefined : Number(moved[1]) - 1),
      faults: others,
    };
  }

  function redirectPlan(request: WireRequest, plan: Plan, redirect: Redirect, hopsLeft: number | undefined): Plan {
    const to = redirect.to ?? "cdn";
    const hops = hopsLeft ?? redirect.hops ?? 0;
    const locations = {
      cdn: () => cdn.sign(plan, request.method, hops),
      relative: () => `/artifacts-downloads/${hops}${request.path.replace(/^\/artifacts-downloads\/\d+/, "")}`,
      loop: () => request.target,
    };
    const location =
      typeof to === "function" ? to(request) : to in locations ? locations[to as keyof typeof locations]() : to;
    const status = redirect.status ?? (to === "relative" ? 302 : 307);
    return {
      status,
      lines: [
        ["Location", location],
        ["Content-Type", "text/html"],
      ],
      body: utf8("<a>moved</a>"),
    };
  }

  function userOf(request: WireRequest): string | undefined {
    const authorization = request.headers.get("authorization");
    const found = registry.auth === "basic" ? access.basicUser(authorization) : access.bearer(authorization);
    return found === undefined || found === "bad" ? undefined : found.user;
  }

  function refuse(request: WireRequest, target: FakeTarget): Plan | undefined {
    if (registry.auth === "none") return undefined;
    const authorization = request.headers.get("authorization");
    const isPing = target.kind === "ping";
    const isReading = request.method === "GET" || request.method === "HEAD";
    if (registry.auth === "basic") {
      const basic = access.basicUser(authorization);
      if (basic === undefined || basic === "bad") return challenge(target, undefined);
      const isAllowed = isReading
        ? access.mayRead(basic.user, target.repository)
        : access.mayWrite(basic.user, target.repository);
      return isPing || isAllowed ? undefined : jsonError(403, "DENIED", "requested access to the resource is denied");
    }
    const bearer = access.bearer(authorization);
    if (bearer === "bad") return challenge(target, "invalid_token");
    if (bearer === undefined) return challenge(target, undefined);
    if (isPing) return undefined;
    if (faults.auth.hideAbsent && !content.repositories.has(target.repository) && bearer.user === undefined) {
      return challenge(target, "insufficient_scope");
    }
    const needed = isReading ? "pull" : request.method === "DELETE" ? "delete" : "push";
    return bearer.granted.get(target.repository)?.includes(needed)
      ? undefined
      : challenge(target, "insufficient_scope");
  }

  function challenge(target: FakeTarget, error: "invalid_token" | "insufficient_scope" | undefined): Plan {
    const plan = jsonError(401, "UNAUTHORIZED", "authentication required");
    if (faults.auth.silentResources && target.kind !== "ping") return plan;
    const lines = faults.auth.challenges ?? [...(faults.auth.challengesBefore ?? []), challengeLine(target, error)];
    return { ...plan, lines: [...plan.lines, ...lines.map((line): HeaderLine => ["WWW-Authenticate", line])] };
  }

  function challengeLine(target: FakeTarget, error: string | undefined): string {
    if (registry.auth === "basic") return 'Basic realm="fake"';
    const isSwitched = faults.auth.realmSwitch && error === "invalid_token";
    const realm = faults.auth.realm ?? `${tokenServer.url}/${isSwitched ? "switched-token" : "token"}`;
    const scope = faults.auth.placeholderScope ? "repository:user/image:pull" : `repository:${target.repository}:pull`;
    const parameters = [`realm="${realm}"`];
    if (!faults.auth.noService) parameters.push(`service="${isSwitched ? "registry" : "fake-registry"}"`);
    if (target.kind !== "ping" || faults.auth.placeholderScope) parameters.push(`scope="${scope}"`);
    if (error !== undefined) parameters.push(`error="${error}"`);
    return `Bearer ${parameters.join(",")}`;
  }

  const servers: (WireServer | FakeCdn)[] = [server, tokenServer, cdn];
  const openAnswers = (): number => servers.reduce((sum, each) => sum + each.openRequests(), 0);
  const registry: FakeRegistry = {
    url: server.url + basePath,
    host: server.host,
    tokenUrl: tokenServer.url,
    cdnUrl: cdn.url,
    auth: options.auth ?? "none",
    access,
    quota,
    faults,
    content,
    requests: log.list,
    tokenRequests: tokenLog.list,
    cdnRequests: cdnLog.list,
    count: log.count,
    countCdn: cdnLog.count,
    until: log.until,
    get bytesSent() {
      return bytesSent;
    },
    get openAnswers() {
      return openAnswers();
    },
    get connections() {
      return server.connections();
    },
    add: content.add,
    release: delivery.gate.release,
    untilHeld: delivery.gate.untilHeld,
    countBroken: () => broken.count(),
    untilBroken: (count) => broken.until({}, count),
    openUploads: uploads.open,
    closeIdle() {
      for (const each of servers) each.closeIdle();
    },
    goDown() {
      for (const each of servers) each.refuse();
    },
    expireTokens: access.expireTokens,
    expireUrls: cdn.expireUrls,
    reset() {
      Object.assign(faults, noFaults());
      for (const each of [log, tokenLog, cdnLog, broken]) each.clear();
      delivery.gate.release();
      access.expireTokens();
      quota.clear();
      cdn.forget();
      bytesSent = 0;
    },
    async close() {
      const open = openAnswers();
      await Promise.all(servers.map((each) => each.close()));
      if (open > 0)
        throw new Error(
          `expected no open answer at the fake registry, got ${open}: ${JSON.stringify(log.list.slice(-3).map(({ path }) => path))}`,
        );
    },
  };
  return registry;
}

function jsonError(status: number, code: string, message: string): Plan {
  return { status, lines: [["Content-Type", "application/json"]], body: utf8(errorBody(code, message)) };
}
