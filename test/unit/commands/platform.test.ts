import { describe, expect, test } from "bun:test";
import { fits, parsePlatforms, platformOfMachine, platformText } from "../../../src/commands/platform.ts";

function one(text: string) {
  const platforms = parsePlatforms([text]);
  const [platform] = platforms === "all" ? [] : platforms;
  if (platform === undefined) throw new Error("expected one platform");
  return platform;
}

describe("parsePlatforms()", () => {
  test("reads repeated flags and commas", () => {
    const platforms = parsePlatforms(["linux/amd64,linux/arm/v7", "windows/amd64"]);
    expect(platforms === "all" ? [] : platforms.map(platformText)).toEqual([
      "linux/amd64",
      "linux/arm/v7",
      "windows/amd64",
    ]);
    expect(parsePlatforms(["linux/amd64", "all"])).toBe("all");
  });

  test.each(["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "linux amd64"])("refuses %j", (text) => {
    expect(() => parsePlatforms([text])).toThrow("expected all or a platform such as linux/arm64 or linux/arm/v7");
  });
});

test.each([
  ["linux/arm64", "linux/arm64/v8", true],
  ["linux/arm64/v8", "linux/arm64", true],
  ["linux/arm", "linux/arm/v6", true],
  ["linux/arm/v7", "linux/arm/v6", false],
  ["linux/arm/v7", "linux/arm", false],
  ["linux/amd64", "windows/amd64", false],
  ["linux/amd64", "linux/arm64", false],
])("fits() %s asked, %s offered: %p", (asked, offered, expected) => {
  expect(fits(one(asked), one(offered))).toBe(expected);
});

test.each([
  ["x64", "linux/amd64"],
  ["arm64", "linux/arm64"],
  ["riscv64", "linux/riscv64"],
])("platformOfMachine() of %s is %s", (arch, text) => expect(platformText(platformOfMachine(arch))).toBe(text));
