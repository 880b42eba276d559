import { describe, expect, test } from "bun:test";
import { load } from "./loading.ts";

async function accountsOf(env: Record<string, string>) {
  const { settings, warnings } = await load({ env });
  const accounts = settings.map.authRegistries.map(({ host, source }) => [
    host,
    ...(source.kind === "password" ? [source.username, source.password] : []),
  ]);
  return { accounts, warnings };
}

const KEY = JSON.stringify({ type: "service_account", private_key: "-----BEGIN KEY----- a:b c -----END KEY-----\\n" });

describe("AUTH_REGISTRIES", () => {
  test.each<[string, Record<string, string>, string[][]]>([
    ["quay.io:u:p", {}, [["quay.io", "u", "p"]]],
    [
      " auth.docker.io:u:p  Quay.IO:a:b\n ",
      {},
      [
        ["docker.io", "u", "p"],
        ["quay.io", "a", "b"],
      ],
    ],
    ["index.docker.io:u:p:with:colons", {}, [["docker.io", "u", "p:with:colons"]]],
    [
      "gcr.io=_json_key={a b};;;quay.io=u=p",
      { AUTH_REGISTRIES_DELIMITER: ";;;", AUTH_REGISTRY_DELIMITER: "=" },
      [
        ["gcr.io", "_json_key", "{a b}"],
        ["quay.io", "u", "p"],
      ],
    ],
    [
      `eu.gcr.io:::_json_key:::${KEY};;;quay.io:::u:::p`,
      { AUTH_REGISTRIES_DELIMITER: ";;;", AUTH_REGISTRY_DELIMITER: ":::" },
      [
        ["eu.gcr.io", "_json_key", KEY],
        ["quay.io", "u", "p"],
      ],
    ],
    [
      "reg.test:5000|u|p\nquay.io|a|b c",
      { AUTH_REGISTRIES_DELIMITER: "\n", AUTH_REGISTRY_DELIMITER: "|" },
      [
        ["reg.test:5000", "u", "p"],
        ["quay.io", "a", "b c"],
      ],
    ],
    ["quay.io:u:p", { AUTH_REGISTRIES_DELIMITER: "", AUTH_REGISTRY_DELIMITER: "" }, [["quay.io", "u", "p"]]],
    ["quay.io:u:p", { AUTH_REGISTRIES_DELIMITER: " ", AUTH_REGISTRY_DELIMITER: ":" }, [["quay.io", "u", "p"]]],
    ["", {}, []],
  ])("[C31] %j with %j", async (text, delimiters, expected) => {
    expect((await accountsOf({ AUTH_REGISTRIES: text, ...delimiters })).accounts).toEqual(expected);
  });

  test("[R248] what is not understood is one warning that quotes nothing", async () => {
    const { accounts, warnings } = await accountsOf({
      AUTH_REGISTRIES: "quay.io:hunter2 ghcr.io:u:p https://x:hunter2",
    });
    expect(accounts).toEqual([["ghcr.io", "u", "p"]]);
    expect(warnings.filter((line) => line.includes("is ignored"))).toHaveLength(2);
    expect(warnings).toContain("AUTH_REGISTRIES is read as credentials for ghcr.io");
    expect(warnings.join()).not.toContain("hunter2");
  });
});
