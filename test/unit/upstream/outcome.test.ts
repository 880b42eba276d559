import { expect, test } from "bun:test";
import { UpstreamError, type UpstreamErrorKind, type UpstreamErrorOptions } from "../../../src/errors.ts";
import type { Turn } from "../../../src/upstream/health.ts";
import { type Outcome, tell, type Wanted } from "../../../src/upstream/outcome.ts";

function answered(status: number): Outcome {
  const url = new URL("https://one.test/v2/");
  return { kind: "answer", response: { status, headers: new Headers(), body: null, url, addressKind: "public" } };
}

function failed(kind: UpstreamErrorKind, options: UpstreamErrorOptions = {}): Outcome {
  return { kind: "error", error: new UpstreamError(kind, "for this test", options) };
}

/** What a turn was told: a word, of a failure its kind. */
function told(outcome: Outcome, lastStatus: number | undefined, wanted: Wanted): string[] {
  const words: string[] = [];
  const turn: Turn = {
    isProbe: true,
    answered: () => void words.push("answered"),
    failed: ({ kind }) => void words.push(kind),
    left: () => void words.push("left"),
  };
  tell(turn, { outcome, lastStatus }, wanted);
  return words;
}

test.each<[string, Outcome, number | undefined, string]>([
  ["404", answered(404), 404, "answered"],
  ["429", failed("limited", { status: 429 }), 429, "answered"],
  ["500", answered(500), 500, "broken"],
  ["a redirect to a storage that fails", failed("connect", { reach: "unreached" }), 307, "answered"],
  ["no connection", failed("connect", { reach: "unreached" }), undefined, "unreached"],
  ["a reset", failed("connect"), undefined, "broken"],
  ["a silence", failed("timeout", { reach: "silent" }), undefined, "silent"],
  ["less time than it takes", failed("timeout"), undefined, "unclear"],
  ["a token server that fails", failed("token", { status: 500 }), undefined, "unclear"],
  ["a token server that gives no answer", failed("token"), undefined, "unclear"],
  ["401 and a token server that fails", failed("token", { status: 500 }), 401, "answered"],
  ["a limit of pulls that is known", failed("limited", { status: 429 }), undefined, "left"],
  ["a limit of tokens", failed("token", { status: 429 }), undefined, "left"],
  ["a token server that refuses the question", failed("token", { status: 400 }), undefined, "left"],
  ["no place for a transfer", failed("overload"), undefined, "left"],
  ["a token server's no", answered(401), undefined, "left"],
])("[R262] tell() knows what says something about the upstream: %s", (_, outcome, lastStatus, expected) => {
  expect(told(outcome, lastStatus, "small")).toEqual([expected]);
});

test("[T4] tell() makes nothing of a blob's silence, and of no failure of an extra connection", () => {
  expect(told(failed("timeout", { reach: "silent" }), undefined, "blob")).toEqual(["unclear"]);
  expect(told(failed("connect", { reach: "unreached" }), undefined, "extra")).toEqual(["left"]);
  expect(told(answered(503), 503, "extra")).toEqual(["left"]);
  expect(told(answered(206), 206, "extra")).toEqual(["answered"]);
});
