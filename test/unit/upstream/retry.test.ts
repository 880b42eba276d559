import { describe, expect, test } from "bun:test";
import { UpstreamError, type UpstreamErrorKind, type UpstreamErrorOptions } from "../../../src/errors.ts";
import type { Outcome } from "../../../src/upstream/outcome.ts";
import { askedPauseMs, pauseBeforeRound } from "../../../src/upstream/retry.ts";
import { ask, bytesOf, registryAt, testClient } from "./fixture.ts";
import { wireHost } from "./wire.ts";

const NOW = Date.parse("2026-01-02T03:04:05Z");
const BLOB = `blobs/sha256:${"a".repeat(64)}`;

function answered(status: number, retryAfter?: string): Outcome {
  const headers = new Headers(retryAfter === undefined ? {} : { "retry-after": retryAfter });
  const url = new URL("https://one.test/v2/");
  return { kind: "answer", response: { status, headers, body: null, url, addressKind: "public" } };
}

function failed(kind: UpstreamErrorKind, options: UpstreamErrorOptions = {}): Outcome {
  return { kind: "error", error: new UpstreamError(kind, "for this test", options) };
}

test.each<[Outcome, manifest: number | undefined, blob: number | undefined]>([
  [answered(500), 0, 0],
  [answered(502), 0, 0],
  [answered(503), 0, 0],
  [answered(504), 0, 0],
  [answered(501), undefined, undefined],
  [answered(404), undefined, undefined],
  [answered(401), undefined, undefined],
  [answered(403), undefined, undefined],
  [answered(429), undefined, 0],
  [answered(429, "2"), undefined, 2_000],
  [answered(503, "5"), 5_000, 5_000],
  [answered(503, "6"), undefined, undefined],
  [answered(503, "0"), 0, 0],
  [answered(503, "Fri, 02 Jan 2026 03:04:08 GMT"), 3_000, 3_000],
  [answered(503, "Fri, 02 Jan 2026 04:04:08 GMT"), undefined, undefined],
  [failed("connect"), 0, 0],
  [failed("connect", { reach: "unreached" }), 0, 0],
  [failed("timeout"), undefined, undefined],
  [failed("timeout", { reach: "unreached" }), undefined, undefined],
  [failed("tls"), undefined, undefined],
  [failed("token"), 0, 0],
  [failed("token", { status: 503, retryAfter: "1" }), 1_000, 1_000],
  [failed("token", { status: 503, retryAfter: "10" }), undefined, undefined],
  [failed("token", { status: 429, retryAfter: "1" }), undefined, undefined],
  [failed("bad-answer"), undefined, undefined],
  [failed("bad-answer", { status: 403 }), 0, 0],
  [failed("refused-address"), undefined, undefined],
  [failed("limited", { retryAfter: "1" }), undefined, undefined],
  [failed("overload", { retryAfter: "1" }), undefined, undefined],
])("[R262, R211, C11] askedPauseMs() %#", (outcome, manifest, blob) => {
  expect(askedPauseMs(outcome, { isBlob: false, now: NOW })).toBe(manifest);
  expect(askedPauseMs(outcome, { isBlob: true, now: NOW })).toBe(blob);
});

test.each([
  ["grows", { round: 0 }, 100],
  ["grows", { round: 1 }, 200],
  ["grows", { round: 2 }, 400],
  ["ends", { round: 3 }, undefined],
  ["is uneven", { round: 2, random: 0 }, 200],
  ["is uneven", { round: 2, random: 0.999 }, 599.6],
  ["is as long as was asked for", { askedMs: 3_000 }, 3_000],
  ["leaves time for the answer", { askedMs: 3_000, remainingMs: 5_999 }, undefined],
  ["ends before the deadline", { remainingMs: 100 }, undefined],
])("[R262, R211] pauseBeforeRound() %s: %j", (_, facts, expected) => {
  const pauseMs = pauseBeforeRound({ round: 0, askedMs: 0, remainingMs: 20_000, random: 0.5, ...facts });
  if (expected === undefined) expect(pauseMs).toBeUndefined();
  else expect(pauseMs).toBeCloseTo(expected);
});

describe("send()", () => {
  /** Answers these heads in turn, and says how long was waited between them. */
  async function heads(...lines: string[]) {
    const host = await wireHost(async (_, answer) => {
      await answer.write(`HTTP/1.1 ${lines.shift() ?? "200 OK"}\r\nContent-Length: 0\r\n\r\n`);
      answer.finish("keep");
    });
    const waits: number[] = [];
    return { host, waits, client: testClient({}, { random: () => 0.5, sleep: async (ms) => void waits.push(ms) }) };
  }

  test("[R211] waits as long as a registry asks for, and no shorter", async () => {
    const { host, waits, client } = await heads("503 X\r\nRetry-After: 2", "503 X\r\nRetry-After: 1");
    const answer = await client.send(ask(registryAt(host.url), { deadlineMs: performance.now() + 20_000 }));
    await bytesOf(answer);
    expect([answer.status, waits]).toEqual([200, [2_000, 1_000]]);
  });

  test("[R211] gives up at once where there is no time for what a registry asks for", async () => {
    const { host, waits, client } = await heads("503 X\r\nRetry-After: 4", "200 OK");
    const answer = await client.send(ask(registryAt(host.url), { deadlineMs: performance.now() + 6_000 }));
    await bytesOf(answer);
    expect([answer.status, answer.headers.get("retry-after"), waits]).toEqual([503, "4", []]);
  });

  test("[C11] tries a blob again after 429, with growing waits", async () => {
    const { host, waits, client } = await heads("429 X", "429 X\r\nRetry-After: 1");
    const answer = await client.send(ask(registryAt(host.url), { path: BLOB, deadlineMs: performance.now() + 20_000 }));
    await bytesOf(answer);
    expect([answer.status, waits]).toEqual([200, [100, 1_000]]);
  });

  test.each([401, 403, 429, 500])("[C11] asks the next upstream for a blob after %d", async (status) => {
    const first = await heads(...Array.from({ length: 9 }, () => `${status} X`));
    const second = await heads();
    const at = registryAt([first.host.url, second.host.url]);
    const answer = await first.client.send(ask(at, { path: BLOB }));
    await bytesOf(answer);
    const asked = first.host.requests.filter(({ path }) => path.includes("/blobs/"));
    expect([answer.status, answer.upstream.origin, asked.length]).toEqual([200, second.host.url, 1]);
  });

  test("[C11] says that a blob is denied when every upstream does, in the first one's words", async () => {
    const first = await heads("403 X\r\nWhose: first");
    const second = await heads("403 X\r\nWhose: second");
    const answer = await first.client.send(ask(registryAt([first.host.url, second.host.url]), { path: BLOB }));
    await bytesOf(answer);
    expect([answer.status, answer.headers.get("whose")]).toEqual([403, "first"]);
  });
});
