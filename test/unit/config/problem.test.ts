import { expect, test } from "bun:test";
import { ConfigError, nearestName, suggestion } from "../../../src/config/problem.ts";

const NAMES = ["listen", "registry-map", "k8s"];

test.each([
  ["listn", "listen"],
  ["LISTEN", "listen"],
  ["registrymap", "registry-map"],
  ["k8", "k8s"],
  ["8", undefined],
  ["something-else", undefined],
  ["", undefined],
])("nearestName() of %p is %p", (name, nearest) => expect(nearestName(name, NAMES)).toBe(nearest));

test("nearestName() gives a name of one letter its neighbour", () => {
  expect(nearestName("a", ["b"])).toBe("b");
  expect(nearestName("a", [])).toBeUndefined();
});

test("suggestion() is a question or nothing", () => {
  expect(suggestion("listn", NAMES)).toBe("; did you mean listen?");
  expect(suggestion("something-else", NAMES)).toBe("");
});

test("ConfigError says every problem, a line each", () => {
  const error = new ConfigError([
    { from: "flag --a", what: "unknown flag" },
    { from: "c.yaml: b", what: "unknown key" },
  ]);
  expect(error.message).toBe("flag --a: unknown flag\nc.yaml: b: unknown key");
});
