/** The fake registry, asked straight and through Layover: every answer to push, discovery and management is the same. */
import { expect, test } from "bun:test";
import { createConformance, type Observed } from "../support/conformance.ts";
import { createFakeRegistry } from "../support/fake-registry.ts";
import { startLayover } from "../support/layover.ts";

test("[R1, R64, R67, R70, R71, R72, R74, R75] push, discovery and management answer through Layover as they do without", async () => {
  const [alone, behind] = [await createFakeRegistry(), await createFakeRegistry()];
  const layover = await startLayover({
    map: { default: "lab", lab: { upstreams: [behind.url], hosts: ["lab.test"] } },
    args: ["--allow-push"],
  });
  const straight = await createConformance({ origin: alone.url, prefix: "" }, "one").run();
  const through = await createConformance({ origin: layover.url, prefix: "lab.test/" }, "one").run();
  expect(through).toEqual(straight);
  expect(straight.filter(({ status }) => status >= 500)).toEqual([] as Observed[]);
  await layover.stop();
  await Promise.all([alone.close(), behind.close()]);
});
