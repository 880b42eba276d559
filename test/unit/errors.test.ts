import { describe, expect, test } from "bun:test";
import { RegistryError, STATUS_OF_CODE, UpstreamError } from "../../src/errors.ts";

describe("RegistryError", () => {
  test("[R34] has the status of its code unless told another", () => {
    expect(new RegistryError("MANIFEST_UNKNOWN", "x").status).toBe(404);
    expect(new RegistryError("DENIED", "x").status).toBe(403);
    expect(new RegistryError("RANGE_INVALID", "x").status).toBe(416);
    expect(new RegistryError("TOOMANYREQUESTS", "x").status).toBe(429);
    expect(new RegistryError("UNSUPPORTED", "x").status).toBe(405);
    expect(new RegistryError("UNSUPPORTED", "x", { status: 404 }).status).toBe(404);
  });

  test("[R32] toJSON() gives the body clients parse, with the detail only when there is one", () => {
    expect(JSON.stringify(new RegistryError("NAME_UNKNOWN", "no such"))).toBe(
      '{"errors":[{"code":"NAME_UNKNOWN","message":"no such"}]}',
    );
    expect(new RegistryError("DENIED", "no", { detail: { name: "a/b" } }).toJSON()).toEqual({
      errors: [{ code: "DENIED", message: "no", detail: { name: "a/b" } }],
    });
  });

  test("[R33] every code of the specification is known, in upper case and underscores", () => {
    const specified = [
      "BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN MANIFEST_INVALID",
      "MANIFEST_UNKNOWN NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED UNSUPPORTED TOOMANYREQUESTS",
    ].flatMap((line) => line.split(" "));
    expect(specified.filter((code) => !(code in STATUS_OF_CODE))).toEqual([]);
    for (const code of Object.keys(STATUS_OF_CODE)) expect(code).toMatch(/^[A-Z_]+$/);
  });

  test("keeps its headers in order and its cause", () => {
    const cause = new Error("below");
    const error = new RegistryError("UNAUTHORIZED", "x", {
      headers: [
        ["A", "1"],
        ["A", "2"],
      ],
      cause,
    });
    expect(error.headers).toEqual([
      ["A", "1"],
      ["A", "2"],
    ]);
    expect(error.cause).toBe(cause);
    expect(new RegistryError("UNKNOWN", "x").headers).toEqual([]);
  });
});

describe("UpstreamError", () => {
  test("carries kind, status and retry-after, and nothing it was not given", () => {
    const error = new UpstreamError("token", "token server said 429", { status: 429, retryAfter: "7" });
    expect([error.kind, error.status, error.retryAfter]).toEqual(["token", 429, "7"]);
    const bare = new UpstreamError("connect", "refused");
    expect([bare.status, bare.retryAfter, "cause" in bare]).toEqual([undefined, undefined, false]);
  });
});
