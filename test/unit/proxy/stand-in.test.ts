import { describe, expect, test } from "bun:test";
import { UpstreamError } from "../../../src/errors.ts";
import { createQuestions, standInsFor } from "../../../src/proxy/blob-source.ts";
import { createStandIns, type StandInRequest } from "../../../src/proxy/stand-in.ts";
import type { Registry } from "../../../src/registry/registry.ts";
import type { UpstreamRequest, UpstreamResponse } from "../../../src/upstream/client.ts";
import { registryAt } from "../upstream/fixture.ts";

const HOME = "https://home.test";
const DIGEST = `sha256:${"a".repeat(64)}`;
const BLOB = `blobs/${DIGEST}`;
const away = registryAt("https://away.test", { key: "away", deny: ["**/secret*"] });
const further = registryAt("https://further.test", { key: "further" });

interface Given {
  readonly home?: Partial<Registry>;
  readonly request?: Partial<StandInRequest>;
  readonly isPublic?: boolean;
  readonly isOpenToAll?: boolean;
  /** By key; default: home gives no answer, the others 200. */
  readonly answers?: Record<string, number | UpstreamError>;
}

/** Sends one request; gives what was asked, in order, as `key name`, and what came of it. */
async function send({ home = {}, request = {}, isPublic = true, isOpenToAll = false, answers = {} }: Given) {
  const standIns = [{ key: "away", prefix: "mirror/", repositories: [] }];
  const registry = registryAt(HOME, { key: "home", standIns, ...home });
  const asked: UpstreamRequest[] = [];
  const counted: string[] = [];
  const { send: ask } = createStandIns({
    upstream: {
      async send(sent) {
        asked.push(sent);
        const { key } = sent.registry;
        const answer = answers[key] ?? (key === "home" ? new UpstreamError("connect", "gone") : 200);
        if (answer instanceof UpstreamError) throw answer;
        return answerOf(sent, answer);
      },
    },
    publicRepositories: { isPublicAt: (origin) => isPublic && origin === HOME },
    registryOf: (key) => ({ away, further })[key],
    isOpenToAll: () => isOpenToAll,
    takesWrites: ({ push }) => push,
    answered: (from, by) => void counted.push(`${by} for ${from}`),
  });
  const deadlineMs = performance.now() + 20_000;
  const outcome = await ask({
    registry,
    repository: "org/app",
    method: "GET",
    path: BLOB,
    query: "",
    headers: [],
    identity: { kind: "anonymous" },
    signal: new AbortController().signal,
    deadlineMs,
    ...request,
  }).then(
    ({ status, isStandIn }) => [status, isStandIn],
    (error: unknown) => (error instanceof UpstreamError ? error.kind : error),
  );
  return { names: asked.map((sent) => `${sent.registry.key} ${sent.repository}`), asked, counted, outcome, deadlineMs };
}

function answerOf({ registry, identity }: UpstreamRequest, status: number): UpstreamResponse {
  const body = new Response("x").body;
  return { status, headers: new Headers(), body, upstream: registry.upstreams[0], identity, elapsedMs: 1 };
}

describe("createStandIns()", () => {
  test("[R262] asks in nobody's name, with Via and Range as they were, and counts who answered", async () => {
    const credential = { origin: HOME, id: "c", username: "u", password: "p" };
    const { names, asked, counted, outcome, deadlineMs } = await send({
      request: { identity: { kind: "credential", credential }, via: "1.1 us", headers: [["Range", "bytes=5-"]] },
    });
    expect([names, counted, outcome]).toEqual([
      ["home org/app", "away mirror/org/app"],
      ["away for home"],
      [200, true],
    ]);
    expect(asked[1]).toMatchObject({
      identity: { kind: "anonymous" },
      via: "1.1 us",
      headers: [["Range", "bytes=5-"]],
    });
    expect(asked[1]?.onlyOrigin).toBeUndefined();
    // The registry leaves it some time.
    expect([asked[0]?.deadlineMs, asked[1]?.deadlineMs]).toEqual([deadlineMs - 5000, deadlineMs]);
  });

  test.each([
    ["a tag", { request: { path: "manifests/latest" } }],
    ["a list", { request: { path: "tags/list" } }],
    ["referrers", { request: { path: `referrers/${DIGEST}` } }],
    ["a digest that nobody here can verify", { request: { path: `blobs/md5:${"a".repeat(32)}` } }],
    ["what nobody verifies", { request: { standIns: "never" } }],
    ["what a client leaves out of a push", { home: { push: true }, request: { clientMethod: "HEAD" } }],
    ["an extra connection", { request: { transfer: "if-free" } }],
    ["what is not known to be public", { isPublic: false }],
    ["what only one origin may know", { request: { onlyOrigin: HOME }, isOpenToAll: true }],
    [
      "what a second upstream showed to everybody",
      { isPublic: false, isOpenToAll: true, home: { upstreams: registryAt([HOME, "https://two.test"]).upstreams } },
    ],
    ["what the stand-in's entry denies", { request: { repository: "org/secret" } }],
    ["a repository it is not for", { home: { standIns: [{ key: "away", prefix: "", repositories: ["library/**"] }] } }],
    ["a key that a new map has no more", { home: { standIns: [{ key: "gone", prefix: "", repositories: [] }] } }],
    ["our own bound", { answers: { home: new UpstreamError("overload", "too many") } }],
    ["a loop", { answers: { home: 508 } }],
    ["a verdict: 200", { answers: { home: 200 } }],
    ["a verdict: 404", { answers: { home: 404 } }],
    ["a verdict: 401", { answers: { home: 401 } }],
    ["a verdict: 403", { answers: { home: 403 } }],
    ["a verdict: 416", { answers: { home: 416 } }],
  ] as [string, Given][])("[R246] names nothing to a stand-in for %s", async (_, given) => {
    const { asked, counted } = await send(given);
    expect([asked.map(({ registry }) => registry.key), counted]).toEqual([["home"], []]);
  });

  test.each([
    ["its registry showed it lately", {}],
    ["the cache remembers it and there is one upstream", { isPublic: false, isOpenToAll: true }],
    [
      "it is one of Docker Hub's own",
      { isPublic: false, home: { isDockerHub: true }, request: { repository: "library/app", onlyOrigin: HOME } },
    ],
  ] as [string, Given][])("asks for what is public since %s", async (_, given) => {
    expect((await send(given)).outcome).toEqual([200, true]);
  });

  test.each([
    ["nothing", new UpstreamError("timeout", "late"), "connect"],
    ["404", 404, "connect"],
    ["a part that nobody asked for", 206, "connect"],
    ["a redirect's remains", 304, "connect"],
  ] as [string, number | UpstreamError, string][])("goes on where a stand-in has %s", async (_, answer, outcome) => {
    const two = ["away", "further"].map((key) => ({ key, prefix: "", repositories: [] }));
    const both = await send({ home: { standIns: two }, answers: { away: answer } });
    expect([both.names, both.outcome]).toEqual([
      ["home org/app", "away org/app", "further org/app"],
      [200, true],
    ]);
    expect((await send({ answers: { away: answer } })).outcome).toBe(outcome);
    expect((await send({ answers: { home: 503, away: answer } })).outcome).toEqual([503, false]);
  });

  test("[R262] asks first where the registry breaks again and again, and then the registry", async () => {
    const request = { standIns: "first" } as const;
    expect((await send({ request })).names).toEqual(["away mirror/org/app"]);
    const neither = await send({ request, answers: { away: 404, home: 206 } });
    expect([neither.names, neither.outcome]).toEqual([
      ["away mirror/org/app", "home org/app"],
      [206, false],
    ]);
  });
});

test("createQuestions() asks who broke off last, whoever answered other connections meanwhile", () => {
  const questions = createQuestions({ algorithm: "sha256", encoded: "a".repeat(64), text: DIGEST });
  const [first, other] = [registryAt(HOME), away].map(({ upstreams }) => ({ upstream: upstreams[0] }));
  if (first === undefined || other === undefined) throw new Error("expected two upstreams");
  questions.answered({ isExtra: false }, first);
  questions.answered({ isExtra: true }, other);
  expect(questions.about({ first: 10, last: undefined, isExtra: false, breaks: 1 }).askLast).toBe(HOME);
  expect(questions.about({ first: 10, last: undefined, isExtra: false, breaks: 0 }).askLast).toBe(undefined);
});

test("standInsFor() is first after two breaks without progress, never for what is extra", () => {
  const turns = [0, 1, 2].flatMap((breaks) => [false, true].map((isExtra) => standInsFor({ breaks, isExtra })));
  expect(turns).toEqual(["after", "never", "after", "never", "first", "never"]);
});
