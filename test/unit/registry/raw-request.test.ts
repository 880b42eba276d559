import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { checkRawRequest, MAX_PATH_LENGTH, MAX_QUERY_LENGTH } from "../../../src/registry/raw-request.ts";
import type { RawRequest } from "../../../src/registry/raw-request.ts";

function request(change: Partial<RawRequest> = {}): RawRequest {
  return { method: "GET", url: "/v2/", httpVersion: "1.1", rawHeaders: ["Host", "registry.test"], ...change };
}

/** `"ok"` or the status of the refusal. */
function verdict(change: Partial<RawRequest>): "ok" | number {
  const checked = checkRawRequest(request(change));
  return checked.kind === "ok" ? "ok" : checked.error.status;
}

const DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

test("[R251] checkRawRequest() gives path and query as they came", () => {
  const checked = checkRawRequest(request({ url: "/v2/library/nginx/tags/list?n=5&last=%2F&ns=docker.io" }));
  expect(checked).toEqual({
    kind: "ok",
    method: "GET",
    path: "/v2/library/nginx/tags/list",
    query: "n=5&last=%2F&ns=docker.io",
    host: { name: "registry.test", port: undefined, text: "registry.test" },
  });
});

describe("targets", () => {
  test.each([
    ["/", "ok"],
    ["/v2", "ok"],
    ["/v2/", "ok"],
    [`/v2/library/nginx/blobs/${DIGEST}`, "ok"],
    ["/V2/", "ok"],
    ["/v2/a..b/manifests/v1.0..x", "ok"],
    ["/v2/a/manifests/...", "ok"],
    ["/docs/assets/swagger-ui.css", "ok"],
    ["/v2/x?a?b/../c", "ok"],
    ["/?", "ok"],
    ["", 400],
    ["v2/", 400],
    ["*", 400],
    ["/v2/../etc/passwd", 400],
    ["/v2/./x", 400],
    ["/..", 400],
    ["/v2/..?x", 400],
    ["/v2/%2e%2e/x", 400],
    ["/v2/.%2E/x", 400],
    ["/v2/..%2fx", 400],
    ["/v2/..;/x", "ok"],
    ["//evil.test/v2/", 400],
    ["/v2//x", 400],
    ["/v2/x\\..\\y", 400],
    ["/v2/\0", 400],
    ["/v2/x\r\nX: y", 400],
    ["/v2/\u00e4", 400],
    ["/v2/\u212a", 400],
    ["/v2/x y", 400],
    ["/v2/x#y", 400],
    ["/v2/x?y#z", 400],
    ["/v2/x?\u00e4", 400],
    ["/v2/x?\x00", 400],
    ["/v2/<script>", 400],
    ["/v2/%", 400],
    ["/v2/%3", 400],
  ])("[R251, T29] %j gives %p", (url, expected) => expect(verdict({ url })).toBe(expected as number));

  test.each([
    ["/v2/x/blobs/sha256%3Aabc", "ok"],
    ["/v2/x/blobs/sha256%3aabc", "ok"],
    ["/v2/x%2Fy/blobs/a", 400],
    ["/v2/x%2fy/blobs/a", 400],
    ["/v2/x%2By/blobs/a", 400],
    ["/v2/x%253Ay", 400],
    ["/v2/x%5cy", 400],
    ["/v2/x%00", 400],
  ])("[R252] %j gives %p", (url, expected) => expect(verdict({ url })).toBe(expected as number));

  test.each([
    ["/token/docker", "ok"],
    ["/token/https://auth.docker.io/token", "ok"],
    ["/token/https%3A%2F%2Fauth.docker.io%2Ftoken", "ok"],
    ["/token/https://auth.test/a%20b", "ok"],
    ["/token/../v2/", 400],
    ["/token/https://x.test/%2e%2e/y", 400],
    ["/token/x%0d%0ay", 400],
    ["/token/x%00", 400],
    ["/token/x%7f", 400],
    ["/token/x%ff", 400],
    ["/token/x%zz", 400],
    ["/token/x%2", 400],
    ["/tokens//x", 400],
    ["/v2/token//x", 400],
  ])("below /token/ %j gives %p", (url, expected) => expect(verdict({ url })).toBe(expected as number));

  test.each([
    ["http://registry.test/v2/?n=1", "/v2/", "n=1"],
    ["HTTP://Registry.Test/v2/", "/v2/", ""],
    ["https://registry.test", "/", ""],
    ["https://registry.test?x=1", "/", "x=1"],
  ])("[T29] absolute-form %j of the Host is its path", (url, path, query) => {
    expect(checkRawRequest(request({ url }))).toMatchObject({ kind: "ok", path, query });
  });

  test.each([
    "http://evil.test/v2/",
    "http://registry.test:81/v2/",
    "http://registry.test@evil.test/v2/",
    "http://evil.test@registry.test/v2/",
    "http:///v2/",
    "http://registry.test\\@evil.test/v2/",
    "ftp://registry.test/v2/",
    "http://registry.test/../v2/",
    "http://registry.test//v2/",
    "registry.test:443",
  ])("[T29] absolute-form %j of anything else is refused", (url) => expect(verdict({ url })).toBe(400));

  test("absolute-form without Host is refused", () => {
    expect(verdict({ url: "http://registry.test/v2/", httpVersion: "1.0", rawHeaders: [] })).toBe(400);
  });

  test("[T29] the longest path and query pass, one character more is 414", () => {
    expect(verdict({ url: `/${"a".repeat(MAX_PATH_LENGTH - 1)}` })).toBe("ok");
    expect(verdict({ url: `/${"a".repeat(MAX_PATH_LENGTH)}` })).toBe(414);
    expect(verdict({ url: `/?${"a".repeat(MAX_QUERY_LENGTH)}` })).toBe("ok");
    expect(verdict({ url: `/?${"a".repeat(MAX_QUERY_LENGTH + 1)}` })).toBe(414);
  });

  test("[R251] what passes is the same path to a URL parser", () => {
    const character = fc.constantFrom(..."/.%3A2eFf\\:?#@;ab \0");
    const path = fc.array(character, { maxLength: 12 }).map((characters) => `/v2/${characters.join("")}`);
    fc.assert(
      fc.property(path, (url) => {
        const checked = checkRawRequest(request({ url }));
        if (checked.kind === "refused") return true;
        const parsed = new URL(`http://registry.test${url}`);
        return parsed.host === "registry.test" && parsed.pathname === checked.path;
      }),
      { numRuns: 3000 },
    );
  });
});

describe("methods", () => {
  test.each(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])("[R254] %s is known", (method) => {
    expect(verdict({ method })).toBe("ok");
  });

  test.each(["CONNECT", "TRACE", "PURGE", "PROPFIND", "get", "", "GET "])(
    "[R254, R253] %j gets 405 with Allow",
    (method) => {
      const checked = checkRawRequest(request({ method, url: method === "CONNECT" ? "x.test:443" : "/v2/" }));
      expect(checked).toMatchObject({ kind: "refused", error: { status: 405, code: "UNSUPPORTED" } });
      if (checked.kind !== "refused") return;
      expect(checked.error.headers).toEqual([["Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"]]);
    },
  );

  test("[R254] OPTIONS * gets 405", () => expect(verdict({ method: "OPTIONS", url: "*" })).toBe(405));
});

describe("Host", () => {
  test.each([
    [["Host", "registry.test"], "registry.test"],
    [["hOsT", "Registry.Test:5000"], "registry.test:5000"],
    [["Host", "[::1]:5000"], "[::1]:5000"],
    [["Host", "192.0.2.7"], "192.0.2.7"],
  ])("[R17, R256] %j is %s", (rawHeaders, text) => {
    expect(checkRawRequest(request({ rawHeaders }))).toMatchObject({ kind: "ok", host: { text } });
  });

  test.each([
    [[]],
    [["Host", ""]],
    [["Host", "a/v2/x?"]],
    [["Host", "user@registry.test"]],
    [["Host", "registry.test,evil.test"]],
    [["Host", "registry.test", "Host", "evil.test"]],
    [["Host", "registry.test", "host", "registry.test"]],
    [["Host", "[fe80::1%25eth0]"]],
    [["Host", "registry.test:0"]],
    [["Host", "registry.test:99999"]],
    [["Host", "http://registry.test"]],
    [["Host", "registry.test\t"]],
  ])("[R17, T29] %j is refused", (rawHeaders) => expect(verdict({ rawHeaders })).toBe(400));

  test("[R254] only HTTP/1.0 may come without", () => {
    expect(checkRawRequest(request({ httpVersion: "1.0", rawHeaders: [] }))).toMatchObject({
      kind: "ok",
      host: undefined,
    });
    expect(verdict({ httpVersion: "1.0", rawHeaders: ["Host", "a b"] })).toBe(400);
  });
});

describe("framing", () => {
  const host = ["Host", "registry.test"];
  test.each([
    [["Content-Length", "5"], "ok"],
    [["Transfer-Encoding", "chunked"], "ok"],
    [["Transfer-Encoding", "Chunked"], "ok"],
    [["Content-Length", "5", "Transfer-Encoding", "chunked"], 400],
    [["Content-Length", "5", "Content-Length", "5"], 400],
    [["Content-Length", "5", "content-length", "6"], 400],
    [["Content-Length", "+5"], 400],
    [["Content-Length", "5, 5"], 400],
    [["Content-Length", "0x5"], 400],
    [["Content-Length", ""], 400],
    [["Content-Length", "9".repeat(16)], 400],
    [["Transfer-Encoding", "gzip, chunked"], 400],
    [["Transfer-Encoding", "xchunked"], 400],
    [["Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked"], 400],
    [["Transfer-Encoding", "identity"], 400],
  ])("[R223, T29] %j gives %p", (lines, expected) => {
    expect(verdict({ method: "PUT", rawHeaders: [...host, ...lines] })).toBe(expected as number);
  });

  test.each([["2.0"], ["0.9"], ["1.2"], [""]])("HTTP/%s gets 400", (httpVersion) =>
    expect(verdict({ httpVersion })).toBe(400),
  );

  test("[T29] 200 header lines pass, 201 get 431", () => {
    const lines = (count: number): string[] => Array.from({ length: count }, () => ["A", "b"]).flat();
    expect(verdict({ rawHeaders: [...host, ...lines(199)] })).toBe("ok");
    expect(verdict({ rawHeaders: [...host, ...lines(200)] })).toBe(431);
  });
});

test("[T29] a refusal repeats nothing of the request", () => {
  const mark = "ZZmarkZZ";
  const changes: Partial<RawRequest>[] = [
    { method: mark },
    { url: `/${mark}/../x` },
    { url: `http://${mark}.test/` },
    { url: `/?${mark}\0` },
    { rawHeaders: ["Host", `${mark}/`] },
    { rawHeaders: ["Host", "registry.test", "Content-Length", mark] },
    { rawHeaders: ["Host", "registry.test", "Transfer-Encoding", mark] },
    { httpVersion: mark },
  ];
  for (const change of changes) {
    const checked = checkRawRequest(request(change));
    expect(checked.kind).toBe("refused");
    if (checked.kind === "refused") expect(JSON.stringify([checked.error, checked.error.headers])).not.toContain(mark);
  }
});
