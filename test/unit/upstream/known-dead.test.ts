/** Upstreams that are known dead: who is asked in their place, who finds out that they are back, and what costs them nothing. */
import { describe, expect, test } from "bun:test";
import { UpstreamError } from "../../../src/errors.ts";
import type { UpstreamDependencies, UpstreamMeter, UpstreamOptions } from "../../../src/upstream/client.ts";
import { createDial, type Race } from "../../../src/upstream/dial.ts";
import { NO_METER } from "../../../src/upstream/meter.ts";
import { makeImage } from "../../support/images.ts";
import { ask, bytesOf, failureOf, fakeRegistry, registryAt, testClient } from "./fixture.ts";
import { wireHost } from "./wire.ts";

const image = makeImage();
const [layer = ""] = image.blobs.keys();

/** A client whose health has a clock of its own, and what it counted. */
function clockedClient(options: Partial<UpstreamOptions> = {}, dependencies: UpstreamDependencies = {}) {
  const clock = { ms: 0 };
  const counted: string[] = [];
  const meter: UpstreamMeter = {
    ...NO_METER,
    answered: (_registry, outcome) => void counted.push(outcome),
    notAsked: () => void counted.push("not asked"),
  };
  const client = testClient(options, { monotonic: () => clock.ms, meter, ...dependencies });
  return { clock, counted, client };
}

/** What the system's race says when nothing answers. */
function noConnection(addresses: readonly string[], port: number): UpstreamError {
  return new UpstreamError("timeout", `no connection to port ${port} of ${addresses.join(", ")}`, {
    reach: "unreached",
  });
}

async function goodRegistry(options: Parameters<typeof fakeRegistry>[0] = {}) {
  const registry = await fakeRegistry(options);
  registry.add("library/busybox", image);
  return registry;
}

/** Answers as it is told to, a status or silence. */
async function moodyHost(mood: { status: number | "silent" }) {
  return wireHost(async (_, answer) => {
    if (mood.status === "silent") return answer.gone;
    await answer.write(`HTTP/1.1 ${mood.status} X\r\nContent-Length: 0\r\n\r\n`);
    answer.finish("keep");
  });
}

/** The URL of a port where nobody listens. */
async function refusingUrl(): Promise<string> {
  const host = await wireHost((_, answer) => answer.gone);
  await host.close();
  return host.url;
}

describe("a registry whose only upstream is dead", () => {
  test("[R262, T6] is refused at once, with the moment of the next try, and without a line or a request", async () => {
    const at = registryAt(await refusingUrl());
    const { clock, counted, client } = clockedClient();
    expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "connect", retryAfter: "5" });
    expect(client.mayAsk(at)).toBe(false);
    expect(client.health(at)).toMatchObject([{ state: "open", askedInSeconds: 5, why: "connect" }]);
    const lines = client.notices.length;
    expect(lines).toBe(2); // one for the four tries of the request, one for the upstream
    counted.length = 0;
    clock.ms = 1_500;
    for (let i = 0; i < 100; i++)
      expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "connect", retryAfter: "4" });
    expect(new Set(counted)).toEqual(new Set(["not asked"]));
    expect(counted).toHaveLength(100);
    expect(client.notices).toHaveLength(lines);
    expect(client.notices.filter(({ message }) => message.startsWith("the upstream gives no answer"))).toHaveLength(1);
  });

  test("[T6] is asked by one request when its moment has come, and the others are refused", async () => {
    const mood: Parameters<typeof moodyHost>[0] = { status: 503 };
    const host = await moodyHost(mood);
    const at = registryAt(host.url);
    const { clock, client } = clockedClient();
    for (let i = 0; i < 5; i++) await bytesOf(await client.send(ask(at)));
    expect(await failureOf(client.send(ask(at)))).toMatchObject({
      kind: "bad-answer",
      retryAfter: "5",
      message: "failing for 0 s, asked again in 5 s: it answered 503",
    });
    const before = host.requests.length;
    mood.status = 404;
    clock.ms = 5_000;
    const asked = Array.from({ length: 50 }, () => client.send(ask(at)).catch(() => undefined));
    const answers = (await Promise.all(asked)).filter((answer) => answer !== undefined);
    for (const answer of answers) await bytesOf(answer);
    expect([answers.length, host.requests.length - before]).toEqual([1, 1]);
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
    const said = client.notices.filter(({ repository }) => repository === undefined);
    expect(said.map(({ registry, message }) => `${registry}: ${message}`)).toEqual([
      "fake: the upstream fails and is spared for 5 s: it answered 503",
      "fake: the upstream answers again, after 5 s",
    ]);
  });

  test("[T6] is tried once by the one that finds out", async () => {
    const host = await moodyHost({ status: 503 });
    const at = registryAt(host.url);
    const { clock, client } = clockedClient();
    for (let i = 0; i < 5; i++) await bytesOf(await client.send(ask(at)));
    expect(host.requests).toHaveLength(20);
    clock.ms = 5_000;
    await bytesOf(await client.send(ask(at)));
    expect(host.requests).toHaveLength(21);
    expect(client.health(at)).toMatchObject([{ state: "open", askedInSeconds: 10 }]);
  });

  test("is asked by another when the client that found out leaves", async () => {
    const mood: Parameters<typeof moodyHost>[0] = { status: 503 };
    const host = await moodyHost(mood);
    const at = registryAt(host.url);
    const { clock, client } = clockedClient();
    for (let i = 0; i < 5; i++) await bytesOf(await client.send(ask(at)));
    mood.status = "silent";
    clock.ms = 5_000;
    const leaving = new AbortController();
    const left = failureOf(client.send(ask(at, { signal: leaving.signal })));
    expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "bad-answer", retryAfter: "1" });
    leaving.abort(new DOMException("client left", "AbortError"));
    expect(await left).toMatchObject({ name: "AbortError" });
    mood.status = 200;
    await bytesOf(await client.send(ask(at)));
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
  });

  test.each([
    ["longer than", 20],
    ["shorter than", 5_000],
  ])(
    "[T6] is known after one request that got no connection, with a header time-out %s the connect time-out",
    async (_, connectTimeoutMs) => {
      const race: Race = (addresses, port, timeoutMs) =>
        new Promise((__, reject) => setTimeout(() => reject(noConnection(addresses, port)), timeoutMs));
      const dial = createDial({ connectTimeoutMs, family: 0 }, { race });
      const { client } = clockedClient({ headerTimeoutMs: 100 }, { dial });
      const at = registryAt("http://192.0.2.1:5000");
      expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "timeout", reach: "unreached" });
      expect(client.mayAsk(at)).toBe(false);
    },
  );

  test("[T6] is known after one request though its address was chosen while it lived", async () => {
    const host = await moodyHost({ status: "silent" });
    let isAlive = true;
    const race: Race = (addresses, port) =>
      isAlive ? Promise.resolve(addresses[0] ?? "") : Promise.reject(noConnection(addresses, port));
    const dial = createDial({ connectTimeoutMs: 20, family: 0 }, { race });
    const { client } = clockedClient({ headerTimeoutMs: 50 }, { dial });
    const at = registryAt(host.url);
    const asked = failureOf(client.send(ask(at)));
    isAlive = false;
    expect(await asked).toMatchObject({ reach: "unreached" });
    expect(client.mayAsk(at)).toBe(false);
  });

  test("[T4] is known by three silences, but not by those of a slow blob", async () => {
    const host = await moodyHost({ status: "silent" });
    const at = registryAt(host.url);
    const { client } = clockedClient({ headerTimeoutMs: 20 });
    for (let i = 0; i < 10; i++) await failureOf(client.send(ask(at, { path: `blobs/${layer}` })));
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
    // Nor by those of clients who had less patience.
    for (let i = 0; i < 10; i++) await failureOf(client.send(ask(at, { deadlineMs: performance.now() + 5 })));
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
    for (let i = 0; i < 3; i++) expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "timeout" });
    expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "timeout", retryAfter: "5" });
    expect(host.requests.length).toBeLessThanOrEqual(23);
  });
});

describe("an upstream is not known dead", () => {
  test("by one repository that always fails among good ones", async () => {
    const registry = await goodRegistry();
    registry.faults.manifest.match = ({ path }) => path.includes("broken");
    registry.faults.manifest.status = 500;
    const at = registryAt(registry.url);
    const { client } = clockedClient();
    for (let i = 0; i < 30; i++) {
      await bytesOf(await client.send(ask(at, { repository: "org/broken" })));
      if (i % 4 === 3) await bytesOf(await client.send(ask(at)));
    }
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
  });

  test.each([503, "silent", "refused"] as const)("by connections that only speed a blob up: %p", async (status) => {
    const at = registryAt(status === "refused" ? await refusingUrl() : (await moodyHost({ status })).url);
    const { client, counted } = clockedClient({ headerTimeoutMs: 20 });
    const extra = ask(at, { path: `blobs/${layer}`, transfer: "if-free" });
    for (let i = 0; i < 10; i++) await client.send(extra).then(bytesOf, () => undefined);
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
    expect(counted).toHaveLength(10); // and none of them is tried again
  });

  test("by storage that it redirects to", async () => {
    const storage = await refusingUrl();
    const registry = await goodRegistry();
    registry.faults.blob.redirect = { to: `${storage}/blob` };
    const at = registryAt(registry.url, { allowAddresses: ["127.0.0.0/8"] });
    const { client } = clockedClient();
    for (let i = 0; i < 10; i++)
      expect(await failureOf(client.send(ask(at, { path: `blobs/${layer}` })))).toMatchObject({ kind: "connect" });
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
  });

  test.each([500, 429] as const)("by its token server: %d", async (status) => {
    const registry = await goodRegistry({ auth: "bearer" });
    registry.faults.token.status = status;
    const at = registryAt(registry.url);
    const { client } = clockedClient();
    for (let i = 0; i < 10; i++) expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "token" });
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
  });

  test.each([401, 403, 404, 405, 416, 429, 501])("by %d", async (status) => {
    const host = await moodyHost({ status });
    const at = registryAt(host.url);
    const { client } = clockedClient();
    for (let i = 0; i < 10; i++) await client.send(ask(at)).then(bytesOf, () => undefined);
    expect(client.health(at)).toMatchObject([{ state: "closed" }]);
  });
});

describe("of several upstreams", () => {
  test("[R142, C11] a dead one is not waited for again, and the next serves", async () => {
    const second = await goodRegistry();
    const at = registryAt([await refusingUrl(), second.url]);
    const { counted, client } = clockedClient();
    for (let i = 0; i < 5; i++) await bytesOf(await client.send(ask(at)));
    expect(counted).toEqual(["connect", "ok", "ok", "ok", "ok", "ok"]);
    expect(client.health(at).map(({ state }) => state)).toEqual(["open", "closed"]);
  });

  test("[T6] the dead one is looked at beside a request that another serves, by HEAD and once a window", async () => {
    const mood: Parameters<typeof moodyHost>[0] = { status: 503 };
    const first = await moodyHost(mood);
    const second = await goodRegistry();
    const at = registryAt([first.url, second.url]);
    const { clock, client } = clockedClient();
    const serve = async () => {
      const answer = await client.send(ask(at));
      await bytesOf(answer);
      return answer.upstream.origin;
    };
    for (let i = 0; i < 10; i++) expect(await serve()).toBe(second.url);
    expect(first.requests).toHaveLength(5);
    mood.status = "silent";
    clock.ms = 5_000;
    for (let i = 0; i < 10; i++) expect(await serve()).toBe(second.url); // nobody waits for the news
    while (first.requests.length < 6) await serve();
    expect([first.requests.length, first.requests[5]?.method]).toEqual([6, "HEAD"]);
  });

  test("the first one serves again when the look found it well", async () => {
    const first = await goodRegistry();
    const second = await goodRegistry();
    Object.assign(first.faults.manifest, { status: 503, times: 5 });
    const at = registryAt([first.url, second.url]);
    const { clock, client } = clockedClient();
    for (let i = 0; i < 6; i++) await bytesOf(await client.send(ask(at)));
    clock.ms = 5_000;
    await bytesOf(await client.send(ask(at)));
    while (client.health(at)[0]?.state !== "closed") await new Promise((resolve) => setImmediate(resolve));
    const answer = await client.send(ask(at));
    await bytesOf(answer);
    expect(answer.upstream.origin).toBe(first.url);
  });

  test("[R142] what the living one has not is no 404 while a dead one might have it", async () => {
    const second = await fakeRegistry();
    const at = registryAt([await refusingUrl(), second.url]);
    const { client } = clockedClient();
    for (let i = 0; i < 3; i++) expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "connect" });
    expect(await failureOf(client.send(ask(at)))).toMatchObject({ kind: "connect", retryAfter: "5" });
  });
});
