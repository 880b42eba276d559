import { describe, expect, test } from "bun:test";
import { imageText, parseImageName } from "../../../src/registry/image.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

describe("parseImageName()", () => {
  test.each([
    ["nginx", "nginx", "nginx:latest"],
    ["nginx:1.27", "nginx", "nginx:1.27"],
    ["quay/org/app", "quay/org/app", "quay/org/app:latest"],
    ["quay.io/org/app:v1", "quay.io/org/app", "quay.io/org/app:v1"],
    ["reg.test:5000/app", "reg.test:5000/app", "reg.test:5000/app:latest"],
    ["localhost:5000/app:x", "localhost:5000/app", "localhost:5000/app:x"],
    ["[::1]:5000/app:x", "[::1]:5000/app", "[::1]:5000/app:x"],
    [`app@${DIGEST}`, "app", `app@${DIGEST}`],
    [`quay.io/org/app:v1@${DIGEST}`, "quay.io/org/app", `quay.io/org/app@${DIGEST}`],
  ])("[R7, R9, R13, R16] reads %s", (text, name, shown) => {
    const image = parseImageName(text);
    expect(image?.name).toBe(name);
    expect(image && imageText(image)).toBe(shown);
  });

  test.each([
    "",
    "A",
    "a//b",
    "/a",
    "a/",
    "a:",
    "a:.x",
    "a@",
    "a@latest",
    "a@sha256:1",
    `a@${DIGEST}@${DIGEST}`,
    "https://quay.io/org/app",
    "docker://nginx",
    "quay.io/Org/app",
    "u@quay.io/org/app",
    "a b",
    "a?x/b",
    "../a",
    "a\n",
  ])("[R7] refuses %j", (text) => expect(parseImageName(text)).toBeUndefined());
});
