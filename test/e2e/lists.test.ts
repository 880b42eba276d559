/** Tags and referrers: pages, links, filters, and registries without the API. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { MEDIA_TYPES, makeArtifact, makeImage } from "../support/images.ts";
import { type Farm, startFarm } from "../support/farm.ts";

let farm: Farm;
const tags = ["1.0", "1.1", "2.0", "latest", "z"];
const tagged = makeImage({ seed: "tagged", tags });
beforeAll(async () => {
  farm = await startFarm();
  for (const registry of [farm.quay, farm.hub]) registry.add("org/tagged", tagged);
  farm.quay.add("org/tagged", makeArtifact({ subject: tagged, artifactType: "application/vnd.test.sbom" }));
  farm.quay.add("org/tagged", makeArtifact({ subject: tagged, artifactType: "application/vnd.test.signature" }));
});
afterAll(() => farm.stop());
beforeEach(() => farm.reset());

interface TagList {
  name: string;
  tags: string[];
}

/** Follows Link as clients do, through whatever it says, and gives all tags and every link. */
async function walk(start: string): Promise<{ tags: string[]; links: string[]; names: Set<string> }> {
  const found = { tags: [] as string[], links: [] as string[], names: new Set<string>() };
  let path: string | undefined = start;
  while (path !== undefined) {
    const answer: Response = await farm.ask(path);
    const list = (await answer.json()) as TagList;
    found.tags.push(...list.tags);
    found.names.add(list.name);
    path = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1];
    if (path !== undefined) found.links.push(path);
    if (found.links.length > 20) throw new Error("expected the pages to end");
  }
  return found;
}

describe("tags", () => {
  test.each([
    ["path after, host", "/v2/quay.io/org/tagged/tags/list", "quay.io/org/tagged", "/v2/quay.io/org/tagged/tags/list"],
    ["path after, key", "/v2/quay/org/tagged/tags/list", "quay/org/tagged", "/v2/quay/org/tagged/tags/list"],
    ["path before", "/quay/v2/org/tagged/tags/list", "org/tagged", "/quay/v2/org/tagged/tags/list"],
    ["root", "/v2/org/tagged/tags/list", "org/tagged", "/v2/org/tagged/tags/list"],
  ])(
    "[R48, R51, R230] %s: the name is the client's, and every page comes through here",
    async (_title, path, name, link) => {
      for (const form of ["relative", "absolute"] as const) {
        farm.quay.faults.tags.link = form;
        farm.hub.faults.tags.link = form;
        const found = await walk(`${path}?n=2`);
        expect(found.tags).toEqual(tags);
        expect([...found.names]).toEqual([name]);
        expect(found.links).toHaveLength(2);
        for (const next of found.links) expect(next).toStartWith(`${link}?`);
      }
    },
  );

  test("[R51, R170] under ns the links keep ns", async () => {
    const found = await walk("/v2/org/tagged/tags/list?n=2&ns=quay.io");
    expect(found.tags).toEqual(tags);
    for (const next of found.links) expect(next).toContain("ns=quay.io");
    expect(farm.quay.requests.some(({ query }) => query.includes("ns="))).toBe(false);
  });

  test("[R49] the order is the registry's own, whatever it is", async () => {
    const odd = ["z", "1.10", "1.9", "B", "a"];
    Object.assign(farm.quay.faults.tags, { status: 200, body: JSON.stringify({ name: "org/tagged", tags: odd }) });
    expect(((await (await farm.ask("/v2/quay/org/tagged/tags/list")).json()) as TagList).tags).toEqual(odd);
  });

  test("[R50] n=0 is an empty list without a next page, also where the registry knows no zero", async () => {
    const headers: [string, string][] = [["Link", '</v2/org/tagged/tags/list?last=z&n=0>; rel="next"']];
    Object.assign(farm.quay.faults.tags, { status: 200, body: JSON.stringify({ name: "x", tags }), headers });
    const none = await farm.ask("/v2/quay/org/tagged/tags/list?n=0");
    expect(none.headers.get("link")).toBeNull();
    expect(((await none.json()) as TagList).tags).toEqual([]);
  });

  test("[R50] last without n, and n=0", async () => {
    const rest = (await (await farm.ask("/v2/quay/org/tagged/tags/list?last=1.1")).json()) as TagList;
    expect(rest.tags).toEqual(["2.0", "latest", "z"]);
    const none = await farm.ask("/v2/quay/org/tagged/tags/list?n=0");
    expect(none.headers.get("link")).toBeNull();
    expect(((await none.json()) as TagList).tags).toEqual([]);
  });

  test.each(["-1", "abc", "1e3", "", "99999999999"])("[R53] n=%s is 400", async (n) => {
    const answer = await farm.ask(`/v2/quay/org/tagged/tags/list?n=${n}`);
    expect(answer.status).toBe(400);
    expect(await answer.text()).toContain("PAGINATION_NUMBER_INVALID");
  });

  test("[R52] null is the empty list", async () => {
    Object.assign(farm.quay.faults.tags, {
      status: 200,
      body: '{"name":"org/tagged","tags":null}',
      contentType: "application/json",
    });
    const answer = await farm.ask("/v2/quay/org/tagged/tags/list");
    expect(((await answer.json()) as TagList).tags).toEqual([]);
  });

  test("[R27] an unknown repository is 404", async () => {
    const answer = await farm.ask("/v2/quay/org/none/tags/list");
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain("NAME_UNKNOWN");
  });

  test("[R234] a page in place of the list is 502", async () => {
    farm.quay.faults.tags.html = true;
    expect((await farm.ask("/v2/quay/org/tagged/tags/list")).status).toBe(502);
  });
});

describe("referrers", () => {
  const path = `/v2/quay/org/tagged/referrers/${tagged.digest}`;

  test("[R54] come as an index of exactly that type", async () => {
    const answer = await farm.ask(path);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe(MEDIA_TYPES.ociIndex);
    expect(((await answer.json()) as { manifests: unknown[] }).manifests).toHaveLength(2);
  });

  test("[R54, R62] an unknown digest has none, with 200", async () => {
    const answer = await farm.ask(`/v2/quay/org/tagged/referrers/sha256:${"0".repeat(64)}`);
    expect(answer.status).toBe(200);
    expect(((await answer.json()) as { manifests: unknown[] }).manifests).toEqual([]);
  });

  test("[R58, R59] a filter goes upstream, and what it says of it comes back", async () => {
    const answer = await farm.ask(`${path}?artifactType=application%2Fvnd.test.sbom`);
    expect(answer.headers.get("oci-filters-applied")).toBe("artifactType");
    expect(((await answer.json()) as { manifests: unknown[] }).manifests).toHaveLength(1);
    const whole = await farm.ask(path);
    expect(whole.headers.get("oci-filters-applied")).toBeNull();
    await whole.text();
  });

  test("[R59, R51] the next page comes through here, with the registry's own cursor", async () => {
    const next = `/v2/org/tagged/referrers/${tagged.digest}?artifactType=a%2Fb&cursor=x%3D1`;
    for (const base of ["", farm.quay.url]) {
      farm.quay.faults.referrers.headers = [["Link", `<${base}${next}>; rel="next"`]];
      const answer = await farm.ask(`${path}?artifactType=a%2Fb`);
      expect(answer.headers.get("link")).toBe(`<${path}?artifactType=a%2Fb&cursor=x%3D1>; rel="next"`);
      await answer.text();
    }
    const query = "artifactType=a%2Fb&cursor=x%3D1";
    await (await farm.ask(`${path}?${query}`)).text();
    expect(farm.quay.requests.at(-1)?.query).toBe(query);
  });

  test.each([
    ["[R56] 404 with MANIFEST_UNKNOWN", 404, "MANIFEST_UNKNOWN"],
    ["[R35] 404 with NAME_UNKNOWN", 404, "NAME_UNKNOWN"],
  ] as const)("%s stays what it is", async (_title, status, code) => {
    Object.assign(farm.quay.faults.referrers, { status, code });
    const answer = await farm.ask(path);
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain(code);
  });

  test.each([[405], [406]])("[R144, R62] %p becomes 404", async (status) => {
    farm.quay.faults.referrers.status = status;
    const answer = await farm.ask(path);
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain("MANIFEST_UNKNOWN");
  });

  test("[R61] an upstream in trouble is never an empty list", async () => {
    farm.quay.faults.referrers.status = 500;
    expect((await farm.ask(path)).status).toBe(502);
    farm.quay.faults.referrers.status = 429;
    expect((await farm.ask(path)).status).toBe(429);
  });

  test("[R55, R14] a bad digest is 400", async () => {
    expect((await farm.ask("/v2/quay/org/tagged/referrers/sha256:bad")).status).toBe(400);
  });

  test("[R60] the fallback tag is a tag like any other", async () => {
    farm.quay.add("org/tagged", makeImage({ seed: "fallback", tags: [tagged.digest.replace(":", "-")] }));
    const answer = await farm.ask(`/v2/quay/org/tagged/manifests/${tagged.digest.replace(":", "-")}`);
    expect(answer.status).toBe(200);
    await answer.bytes();
  });
});
