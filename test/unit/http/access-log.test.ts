import { describe, expect, test } from "bun:test";
import { UpstreamError } from "../../../src/errors.ts";
import { createAccessLog, type Outcome } from "../../../src/http/access-log.ts";
import { createLog } from "../../../src/log.ts";
import type { AccessNotes, Exchange } from "../../../src/proxy/exchange.ts";
import { createOriginReader } from "../../../src/proxy/origin.ts";

const SECRET = "s3cr3t-value";

/** A request that carries the secret wherever a client can put one. */
function exchange(path: string): Exchange {
  const notes: AccessNotes = { registry: "quay", repository: "org/app", cache: "HIT" };
  return {
    id: "0123456789abcdef",
    method: "GET",
    path,
    query: `token=${SECRET}`,
    host: { name: "reg.test", port: undefined, text: "reg.test" },
    headers: new Headers({
      authorization: `Bearer ${SECRET}`,
      cookie: `session=${SECRET}`,
      "proxy-authorization": `Basic ${SECRET}`,
      "x-api-key": SECRET,
      "x-gitlab-token": SECRET,
      "user-agent": "containerd/2.1",
    }),
    peer: "192.0.2.7",
    secure: false,
    signal: new AbortController().signal,
    receivedAtMs: 0,
    body: null,
    notes,
  };
}

function linesFor(level: "info" | "debug", path: string, ended: Partial<Outcome> = {}): Record<string, unknown>[] {
  const lines: string[] = [];
  const log = createLog({ level, format: "json" }, { destination: { write: (line) => void lines.push(line) } });
  const originOf = createOriginReader({
    publicUrl: undefined,
    domainSuffix: undefined,
    trustedProxies: [],
    forceHttp: false,
  });
  const outcome = { status: 200, bytesSent: 2, durationMs: 1.4, complete: true, ...ended };
  createAccessLog(log, originOf).finished(exchange(path), outcome);
  expect(lines.join("")).not.toContain(SECRET);
  return lines.map((line) => JSON.parse(line));
}

describe("createAccessLog()", () => {
  test("finished() writes named fields, none of which holds a secret, without anything being redacted", () => {
    expect(linesFor("info", "/v2/org/app/manifests/latest")).toEqual([
      {
        level: "info",
        time: expect.any(String),
        id: "0123456789abcdef",
        client: "192.0.2.7",
        method: "GET",
        host: "reg.test",
        uri: "/v2/org/app/manifests/latest",
        status: 200,
        bytes: 2,
        ms: 1,
        registry: "quay",
        repository: "org/app",
        cache: "HIT",
        agent: "containerd/2.1",
        msg: "request",
      },
    ]);
  });

  test("finished() says of an answer that broke what broke it", () => {
    const cause = new UpstreamError("bad-answer", "digest mismatch: expected sha256:00, got sha256:11");
    const broken = { complete: false, broken: "body-failed", cause };
    expect(linesFor("info", "/v2/org/app/manifests/latest", broken)).toMatchObject([
      { complete: false, broken: "body-failed", reason: cause.message },
    ]);
  });

  test("finished() says what a foreign error's code is, and nothing of its message", () => {
    const cause = Object.assign(new Error(`https://cdn.test/?signature=${SECRET}`), { code: "ECONNRESET" });
    const [line] = linesFor("info", "/v2/org/app/manifests/latest", { complete: false, broken: "body-failed", cause });
    expect(line?.["reason"]).toBe("ECONNRESET");
  });

  test("finished() leaves scrapes out, but not those that were refused", () => {
    expect(linesFor("info", "/metrics")).toEqual([]);
    expect(linesFor("info", "/metrics", { status: 404 })).toMatchObject([{ uri: "/metrics", status: 404 }]);
  });

  test("finished() leaves userinfo out of a token path", () => {
    expect(linesFor("info", `/token/https://user:${SECRET}@auth.test/token`)[0]?.["uri"]).toBe(
      "/token/https://auth.test/token",
    );
  });

  test("finished() shows at level debug which headers came, and not what secret ones held", () => {
    const [, head] = linesFor("debug", "/v2/");
    expect(head?.["head"]).toMatchObject({
      authorization: "[redacted]",
      cookie: "[redacted]",
      "x-api-key": "[redacted]",
    });
  });
});
