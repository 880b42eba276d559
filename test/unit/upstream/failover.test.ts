import { describe, expect, test } from "bun:test";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient, upstreamAt, userAt } from "./fixture.ts";
import { askInTurn } from "../../../src/upstream/failover.ts";
import { createHealth } from "../../../src/upstream/health.ts";
import { answering, wireHost } from "./wire.ts";

const image = makeImage();

/** A host that answers these statuses in turn, the last one for ever. */
async function statusHost(...statuses: (number | string)[]) {
  return wireHost(async (request, answer) => {
    const status = statuses.length > 1 ? statuses.shift() : statuses[0];
    if (status === "reset") return answer.finish("reset");
    await answering(`HTTP/1.1 ${status} X\r\nContent-Length: 4\r\n\r\nbody`)(request, answer);
  });
}

async function goodRegistry(options: Parameters<typeof fakeRegistry>[0] = {}) {
  const registry = await fakeRegistry(options);
  registry.add("library/busybox", image);
  return registry;
}

describe("the next upstream is asked", () => {
  test.each([404, 429, 500, 502, 503, 504, 599, "reset"])("[R142] when one answers %p", async (status) => {
    const first = await statusHost(status);
    const second = await goodRegistry();
    const client = testClient();
    const answer = await client.send(ask(registryAt([first.url, second.url])));
    expect([answer.status, answer.upstream.origin]).toEqual([200, second.url]);
    await bytesOf(answer);
    // An image that is elsewhere is no trouble.
    expect(client.notices.map(({ host }) => host)).toEqual(status === 404 ? [] : [first.host]);
  });

  test("[R142] when one cannot be reached", async () => {
    const first = await statusHost(200);
    await first.close();
    const second = await goodRegistry();
    const answer = await testClient().send(ask(registryAt([first.url, second.url])));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
  });

  test("[R142] when one does not answer in time", async () => {
    const first = await wireHost((_, answer) => answer.gone);
    const second = await goodRegistry();
    const answer = await testClient({ headerTimeoutMs: 50 }).send(ask(registryAt([first.url, second.url])));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
  });

  test.each([200, 206, 304, 400, 401, 403, 405, 406, 416])("but not when one answers %d", async (status) => {
    const first = await statusHost(status);
    const second = await goodRegistry();
    const answer = await testClient().send(ask(registryAt([first.url, second.url])));
    await bytesOf(answer).catch(() => undefined);
    expect([answer.status, second.count()]).toEqual([status, 0]);
  });

  test("after a 401 when it is the one that knows the client", async () => {
    const users = { ann: { password: "pw" } };
    const first = await goodRegistry({ auth: "bearer", privateRepositories: ["**"] });
    const second = await goodRegistry({ auth: "bearer", users, privateRepositories: ["**"] });
    const at = registryAt([first.url, second.url]);
    const answer = await testClient().send(ask(at, { identity: userAt(second.url, "ann", "pw") }));
    expect([answer.status, answer.upstream.origin]).toEqual([200, second.url]);
    await bytesOf(answer);
    const known = await testClient().send(ask(at, { identity: userAt(first.url, "bob", "x") }));
    await bytesOf(known);
    expect([known.status, known.upstream.origin]).toEqual([401, first.url]);
  });
});

test("[R248] a credential goes to its own upstream and to no other", async () => {
  const users = { ann: { password: "pw" } };
  const first = await goodRegistry({ auth: "basic", users });
  const second = await goodRegistry({ auth: "basic", users });
  const identity = userAt(first.url, "ann", "pw");
  first.faults.manifest.status = 503;
  const answer = await testClient().send(ask(registryAt([first.url, second.url]), { identity }));
  await bytesOf(answer);
  expect(first.requests.some(({ headers }) => headers.has("authorization"))).toBe(true);
  expect(second.count()).toBeGreaterThan(0);
  expect(second.requests.some(({ headers }) => headers.has("authorization"))).toBe(false);
});

test.each([
  ["the next upstream has it", [[404], [200]], 0],
  ["another one tells more", [[404], [429]], 0],
  ["a later try tells more", [[503, 200]], 0],
  ["the first of equals is taken", [[404], [404]], 1],
] as const)("askInTurn() leaves no body unread but the answer's: %s", async (_, scripts, chosen) => {
  const bodies: { isCancelled: boolean }[] = [];
  const upstreams = scripts.map((__, index) => upstreamAt(`http://upstream-${index}.test`));
  const remaining = scripts.map((statuses) => [...statuses]);
  const answered = await askInTurn({
    upstreams,
    health: createHealth({ now: () => 0, random: () => 0, changed: () => undefined })({ key: "fake" }),
    look: () => undefined,
    wanted: "small",
    onRefusal: () => undefined,
    ask: async (upstream, seen) => {
      const status = remaining[upstreams.indexOf(upstream)]?.shift() ?? 500;
      seen(status);
      const state = { isCancelled: false };
      bodies.push(state);
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(new Uint8Array(100_000)),
        cancel: () => void (state.isCancelled = true),
      });
      return { status, headers: new Headers(), body, url: new URL(upstream.origin), addressKind: "public" };
    },
    credentialOrigin: undefined,
    signal: new AbortController().signal,
    deadlineMs: performance.now() + 2_000,
    random: () => 0,
    sleep: async () => undefined,
    onFailure: () => undefined,
  });
  expect(bodies.map(({ isCancelled }) => isCancelled)).toEqual(chosen === 1 ? [false, true] : [true, false]);
  await answered.response.body?.cancel();
});

describe("when none has it, the answer is", () => {
  test.each([
    ["404 when all say so", [404, 404], 404],
    ["the failure when one that failed might have had it", [404, 503], 503],
    ["the first upstream's where they fail alike", [502, 504], 502],
  ] as const)("%s", async (_, [a, b], expected) => {
    const first = await statusHost(a);
    const second = await statusHost(b);
    const answer = await testClient().send(ask(registryAt([first.url, second.url])));
    expect(answer.status).toBe(expected);
    expect(new TextDecoder().decode(await bytesOf(answer))).toBe("body");
  });

  test.each([404, 503, "reset"])("[R211] that pulls are limited rather than %p", async (other) => {
    const first = await statusHost(other);
    const second = await statusHost(429);
    const error = await failureOf(testClient().send(ask(registryAt([first.url, second.url]))));
    expect(error).toMatchObject({ kind: "limited", status: 429, retryAfter: "60" });
  });

  test("an error when one is absent and the other unreachable", async () => {
    const first = await statusHost(404);
    const second = await statusHost("reset");
    const error = await failureOf(testClient().send(ask(registryAt([first.url, second.url]))));
    expect(error).toMatchObject({ kind: "connect" });
  });
});

describe("a try again", () => {
  test.each([500, 502, 503, 504, "reset"])("[R262] heals one %p", async (status) => {
    const host = await statusHost(status, 200);
    const answer = await testClient().send(ask(registryAt(host.url)));
    expect(answer.status).toBe(200);
    await bytesOf(answer);
  });

  test.each([500, "reset"])("[R262] is made three times at most, after uneven waits that grow: %p", async (status) => {
    const host = await statusHost(status);
    const waits: number[] = [];
    const client = testClient({}, { random: () => 0.5, sleep: async (ms) => void waits.push(ms) });
    const outcome = await client.send(ask(registryAt(host.url))).then(
      (answer) => bytesOf(answer).then(() => answer.status),
      (error) => error.kind,
    );
    expect(outcome).toBe(status === "reset" ? "connect" : 500);
    expect(waits).toEqual([100, 200, 400]);
    // fetch itself asks a second time when a kept connection breaks; a new one it does not.
    if (status === 500) expect(host.requests).toHaveLength(4);
  });

  test.each([400, 404, 501])("is not made for %d", async (status) => {
    const host = await statusHost(status);
    await bytesOf(await testClient().send(ask(registryAt(host.url))));
    expect(host.requests).toHaveLength(1);
  });

  test("[R211] is not made where Retry-After asks for more patience", async () => {
    const overloaded = await wireHost(answering("HTTP/1.1 503 X\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"));
    const answer = await testClient().send(ask(registryAt(overloaded.url)));
    expect([answer.status, answer.headers.get("retry-after"), overloaded.requests.length]).toEqual([503, "30", 1]);
    const limiting = await wireHost(answering("HTTP/1.1 429 X\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n"));
    const error = await failureOf(testClient().send(ask(registryAt(limiting.url))));
    expect(error).toMatchObject({ kind: "limited", retryAfter: "30" });
    expect(limiting.requests).toHaveLength(1);
  });

  test("is not made when the deadline would pass meanwhile", async () => {
    const host = await statusHost(503);
    const answer = await testClient().send(ask(registryAt(host.url), { deadlineMs: performance.now() + 45 }));
    await bytesOf(answer);
    expect([answer.status, host.requests.length]).toEqual([503, 1]);
  });

  test("asks only those whose failure may pass", async () => {
    const first = await statusHost(404);
    const second = await statusHost(503, 200);
    const answer = await testClient().send(ask(registryAt([first.url, second.url])));
    await bytesOf(answer);
    expect([answer.status, first.requests.length, second.requests.length]).toEqual([200, 1, 2]);
  });

  test("ends when the client leaves", async () => {
    const host = await statusHost(503);
    const client = new AbortController();
    const sleep = async (_: number, signal: AbortSignal) => {
      client.abort(new DOMException("client left", "AbortError"));
      signal.throwIfAborted();
    };
    const error = await failureOf(testClient({}, { sleep }).send(ask(registryAt(host.url), { signal: client.signal })));
    expect(error).toMatchObject({ name: "AbortError" });
    expect(host.requests).toHaveLength(1);
  });
});
