import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatNextLink, parseNextLink } from "../../../src/registry/link.ts";

describe("parseNextLink()", () => {
  test.each([
    ["relative", '</v2/x/tags/list?last=b&n=2>; rel="next"', "/v2/x/tags/list?last=b&n=2"],
    ["absolute", '<https://reg.test/v2/x/tags/list?n=2>; rel="next"', "https://reg.test/v2/x/tags/list?n=2"],
    ["unquoted", "</a>;rel=next", "/a"],
    ["upper case", '</a>; REL="NEXT"', "/a"],
    ["blanks", ' </a>\t;\trel = "next" ', "/a"],
    ["several relations", '</a>; rel="prev next"', "/a"],
    ["other parameters first", '</a>; title="x; rel=prev, y"; rel="next"', "/a"],
    ["a second link", '</a>; rel="prev", </b,c>; rel="next"', "/b,c"],
    ["a flag before", "</a>; crossorigin; rel=next", "/a"],
    ["empty parameters", "</a>;; ;rel=next", "/a"],
    ["junk before", 'junk, "more <junk>", </a>; rel=next', "/a"],
    ["an empty target", "<>; rel=next", ""],
  ])("[R51] finds the target: %s", (_, header, expected) => {
    expect(parseNextLink(header)).toBe(expected);
  });

  test.each([
    null,
    undefined,
    "",
    "</a>",
    '</a>; rel="prev"',
    '</a>; rel="nextish"',
    '</a>; rel="prev"; rel="next"',
    '</a>; title="rel=next"',
    '</a; rel="next"',
    '</a>; rel="next',
    "/a; rel=next",
  ])("[R51] finds none in %j", (header) => {
    expect(parseNextLink(header)).toBeUndefined();
  });

  test("[R51, T29] reads nothing from a header longer than 64 KiB", () => {
    expect(parseNextLink(`</a>; title="${"x".repeat(60_000)}"; rel="next"`)).toBe("/a");
    expect(parseNextLink(`</a>; title="${"x".repeat(70_000)}"; rel="next"`)).toBeUndefined();
  });

  test.each([
    ["semicolons", `</a>${"; ".repeat(32_000)}!`],
    ["blanks", `</a>;${" ".repeat(65_000)}!`],
    ["brackets", "<".repeat(65_000)],
    ["quotes", `</a>;a=${'"'.repeat(65_001)}`],
    ["links", "<a>,".repeat(16_000)],
  ])("[R51, T29] is done at once with 64 KiB of %s", (_, header) => {
    const startMs = performance.now();
    expect(parseNextLink(header)).toBeUndefined();
    expect(performance.now() - startMs).toBeLessThan(500);
  });
});

describe("formatNextLink()", () => {
  test("[R51] writes one link", () => {
    expect(formatNextLink("/v2/x/tags/list?last=b&n=2")).toBe('</v2/x/tags/list?last=b&n=2>; rel="next"');
  });

  test("[R51, T29] lets nothing end the target early", () => {
    expect(formatNextLink('/a>; rel="x"\r\nY: z')).toBe('</a%3E;%20rel=%22x%22%0D%0AY:%20z>; rel="next"');
  });

  test("[R51] is read back, for every target of URL characters", () => {
    const target = fc.string({ unit: fc.constantFrom(..."ab/?&=,;:%2F+~") });
    fc.assert(fc.property(target, (text) => parseNextLink(formatNextLink(text)) === text));
    fc.assert(fc.property(fc.string(), (text) => parseNextLink(formatNextLink(text)) !== undefined));
  });
});
