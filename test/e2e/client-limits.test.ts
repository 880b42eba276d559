/** How much one client may ask for: `--client-requests` and `--client-transfers`. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Farm, layerOf, startFarm } from "../support/farm.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm({
    args: ["--client-requests", "4/h", "--client-transfers", "1", "--trusted-proxies", "127.0.0.1"],
  });
});
afterAll(() => farm.stop());

const MANIFEST = "/v2/quay/org/app/manifests/latest";

function from(address: string): Record<string, string> {
  return { "x-forwarded-for": address };
}

describe("a client that asks too much", () => {
  test("is told when to come back, and others are not", async () => {
    const states: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      const answer = await farm.ask(MANIFEST, { headers: from("192.0.2.1") });
      await answer.text();
      states.push(answer.status);
      if (answer.status === 429) expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(800);
    }
    expect(states).toEqual([200, 200, 200, 200, 429]);
    expect((await farm.ask(MANIFEST, { headers: from("192.0.2.2") })).status).toBe(200);
    expect((await farm.ask("/healthz", { headers: from("192.0.2.1") })).status).toBe(200);
  });

  test("may have so many transfers under way, and the next when one ended", async () => {
    const path = `/v2/quay/org/app/blobs/${layerOf(farm.images.quay)}`;
    Object.assign(farm.quay.faults.blob, { stallAfterBytes: 10, times: 1 });
    const leaving = new AbortController();
    const slow = await farm.ask(path, { headers: from("192.0.2.3"), signal: leaving.signal });
    expect(slow.status).toBe(200);
    const second = await farm.ask(MANIFEST, { headers: from("192.0.2.3") });
    expect([second.status, second.headers.get("retry-after")]).toEqual([429, "1"]);
    const head = await farm.ask(MANIFEST, { method: "HEAD", headers: from("192.0.2.3") });
    expect(head.status).toBe(200);
    leaving.abort();
    farm.reset();
    await farm.layover.logLine(({ uri, status }) => uri === path && status === 200);
    expect((await farm.ask(MANIFEST, { headers: from("192.0.2.3") })).status).toBe(200);
  });
});
