import { expect, test } from "bun:test";
import { join } from "node:path";
import { z } from "zod";
import { configSchema, configurationPage } from "../../../docs/generate.ts";
import { helpText } from "../../../src/commands/help.ts";
import { COMMAND_FLAGS, COMMAND_FLAG_NAMES } from "../../../src/config/command-flags.ts";
import { ENTRY_TEXTS, PART_TEXTS } from "../../../src/config/map-texts.ts";
import type { OptionText } from "../../../src/config/option.ts";
import { OPTIONS, OPTION_NAMES, isInFile, variableOf } from "../../../src/config/options.ts";

const DOCS = join(import.meta.dir, "../../../docs");

test("docs/configuration.md says what the table says: run npm run docs", async () => {
  expect(await Bun.file(join(DOCS, "configuration.md")).text()).toBe(configurationPage());
});

test("docs/config.schema.json says what the table says: run npm run docs", async () => {
  expect(await Bun.file(join(DOCS, "config.schema.json")).json()).toEqual(JSON.parse(JSON.stringify(configSchema())));
});

test("the schema takes what the file takes and refuses the rest", () => {
  const schema = z.fromJSONSchema(JSON.parse(JSON.stringify(configSchema())));
  const accepts = (value: unknown) => schema.safeParse(value).success;
  expect(
    accepts({ $schema: "x", listen: [":1", ":2"], strictHosts: true, logLevel: "warn", domainSuffix: "a.example" }),
  ).toBe(true);
  expect(accepts({ listen: ":1" })).toBe(true);
  expect(accepts({ listn: ":1" })).toBe(false);
  expect(accepts({ config: "x" })).toBe(false);
  expect(accepts({ logLevel: "loud" })).toBe(false);
  expect(accepts({ strictHosts: "a" })).toBe(false);
});

test("helpText() names every flag, variable and default, and fits 100 columns", () => {
  const help = helpText();
  const flat = help.replaceAll(/\s+/g, " ");
  for (const name of OPTION_NAMES) {
    const { flag, help: sentence, inherited = [], default: value, defaultText }: OptionText = OPTIONS[name];
    expect(help).toContain(`  --${flag}`);
    expect(flat).toContain(sentence);
    for (const variable of [variableOf(name), ...inherited]) expect(help).toContain(`$${variable}`);
    if (OPTIONS[name].kind.placeholder !== "" && (defaultText ?? value) !== undefined)
      expect(flat).toContain(`default: ${defaultText ?? value}`);
  }
  for (const name of COMMAND_FLAG_NAMES) {
    expect(help).toContain(`--${COMMAND_FLAGS[name].flag}`);
    expect(flat).toContain(COMMAND_FLAGS[name].help);
  }
  for (const line of help.split("\n")) expect(line.length).toBeLessThanOrEqual(100);
  expect(help).not.toMatch(/ $/m);
});

test("configurationPage() has one section for every option", () => {
  const page = configurationPage();
  for (const name of OPTION_NAMES) {
    expect(page).toContain(`### \`--${OPTIONS[name].flag}`);
    expect(page.includes(`- File: \`${name}\``)).toBe(isInFile(name));
  }
});

test("configurationPage() has every field of the registry map", () => {
  const page = configurationPage();
  for (const field of [ENTRY_TEXTS, ...Object.values(PART_TEXTS)].flatMap((texts) => Object.keys(texts)))
    expect(page).toContain(`\n- \`${field}\` (`);
});
