/**
 * docker-registry, asked straight and through Layover: push, content discovery and content management answer alike, save
 * what is explained here.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createConformance, type Observed } from "../support/conformance.ts";
import { createLab, type Lab, PLAIN_HOST } from "./lab.ts";

/** Step → why Layover's answer is another one. */
const DIFFERS: Readonly<Record<string, string>> = {
  "tags?n=0": "the specification wants an empty list; docker-registry 2.8 gives all (protocol R50)",
  referrers: "docker-registry 2.8 has no referrers: its page of text becomes an error document (protocol R56)",
  "referrers, filtered": "likewise",
};

let lab: Lab;
beforeAll(async () => {
  lab = await createLab(["--allow-push"]);
});
afterAll(() => lab?.stop());

test("[R1, R67, R70, R71, R72, R74, R75] docker-registry answers through Layover as it does without", async () => {
  const straight = await createConformance({ origin: lab.upstreams.url.quay, prefix: "" }, "straight").run();
  await forget(straight);
  const through = await createConformance({ origin: `http://${PLAIN_HOST}`, prefix: "quay.io/" }, "straight").run();
  const isAlike = ({ step }: Observed): boolean => DIFFERS[step] === undefined;
  expect(through.filter(isAlike)).toEqual(straight.filter(isAlike));
  expect(through.map(({ step, status }) => `${step} ${status >= 500}`).filter((text) => text.endsWith("true"))).toEqual(
    [],
  );
});

/** The second run begins where the first did: in a repository that holds nothing of it. */
async function forget(seen: readonly Observed[]): Promise<void> {
  for (const name of ["conformance/app", "conformance/app-mount"]) {
    const base = `${lab.upstreams.url.quay}/v2/${name}`;
    for (const { headers } of seen) {
      const digest = headers["docker-content-digest"];
      if (digest === undefined) continue;
      for (const kind of ["manifests", "blobs"]) await fetch(`${base}/${kind}/${digest}`, { method: "DELETE" });
    }
  }
}
