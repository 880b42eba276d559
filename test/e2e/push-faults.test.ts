/** Pushes that break: at the client, at the registry, in the middle. Nothing is sent twice, nothing broken looks finished. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { basicHeader, type Farm, startFarm } from "../support/farm.ts";
import { digestOf, makeImage, randomBytes } from "../support/images.ts";
import { beginUpload, finishUpload, pushManifest, type PushPlace, pushRequest } from "../support/pushing.ts";
import { openRaw } from "../support/raw-http.ts";

let farm: Farm;
beforeAll(async () => {
  farm = await startFarm({ args: ["--allow-push"] });
});
afterEach(() => farm.reset());
afterAll(() => farm.stop());

const MIB = 1024 * 1024;
const place = (path = "/v2/quay/org/faulty"): PushPlace => ({ server: farm.layover.url, path });
const pathOf = (location: string): string => new URL(location).pathname;

describe("a client that breaks off", () => {
  const FRAMINGS: [string, string, string][] = [
    ["a length", "Content-Length: 5000000", "x".repeat(200_000)],
    ["chunks", "Transfer-Encoding: chunked", `30d40\r\n${"x".repeat(200_000)}\r\n`],
  ];
  for (const [framing, line, sent] of FRAMINGS) {
    test(`[R235] in a body with ${framing}: the registry sees a broken one, and the upload can go on`, async () => {
      const location = await beginUpload(place());
      const connection = await openRaw(farm.layover.url);
      connection.send(`PATCH ${pathOf(location)} HTTP/1.1\r\nHost: ${farm.layover.host}\r\n${line}\r\n\r\n${sent}`);
      connection.end();
      await farm.quay.untilBroken(1);
      expect([farm.quay.count({ method: "PATCH" }), farm.quay.countBroken()]).toEqual([0, 1]);
      const state = await pushRequest(place(), location, { method: "GET" });
      expect([state.status, state.headers.get("range")]).toEqual([204, "0-0"]);
    });
  }

  test("in a manifest: the registry hears nothing of it", async () => {
    const connection = await openRaw(farm.layover.url);
    connection.send(
      `PUT /v2/quay/org/faulty/manifests/v1 HTTP/1.1\r\nHost: ${farm.layover.host}\r\nContent-Length: 1000\r\n\r\n{"a`,
    );
    connection.end();
    await farm.layover.logLine((entry) => entry["method"] === "PUT" && entry["complete"] === false);
    expect(farm.quay.count({ method: "PUT" })).toBe(0);
  });
});

describe("a registry that fails", () => {
  const body = Buffer.from(randomBytes("broken", 4 * MIB));
  const FAULTS: [string, () => void, number, string | undefined][] = [
    [
      "breaks in the middle",
      () => (farm.quay.faults.push.interrupt = { afterBytes: 100_000, how: "reset" }),
      502,
      "UNAVAILABLE",
    ],
    ["breaks instead of an answer", () => (farm.quay.faults.push.hangUp = "reset"), 502, "UNAVAILABLE"],
    ["answers 500", () => (farm.quay.faults.push.status = 500), 502, "UNAVAILABLE"],
    ["answers 503", () => (farm.quay.faults.push.status = 503), 503, "UNAVAILABLE"],
    ["limits", () => (farm.quay.faults.push.status = 429), 429, "TOOMANYREQUESTS"],
    ["redirects", () => (farm.quay.faults.push.status = 307), 502, "UNAVAILABLE"],
  ];
  for (const [title, arrange, status, code] of FAULTS) {
    test(`${title}: ${status}, and nothing is sent again`, async () => {
      const location = await beginUpload(place());
      arrange();
      const before = farm.quay.requests.length;
      const answer = await pushRequest(place(), location, { method: "PATCH", body });
      expect([answer.status, await codeOf(answer)]).toEqual([status, code]);
      expect(farm.quay.requests.length - before + farm.quay.countBroken()).toBe(1);
    });
  }

  for (const status of [413, 400]) {
    test(`answers ${status} while the body still comes: the client has that answer, and the rest is not read`, async () => {
      const location = await beginUpload(place());
      farm.quay.faults.push.interrupt = { afterBytes: 100_000, how: "answer" };
      Object.assign(farm.quay.faults.push, { status, code: "SIZE_INVALID" });
      const connection = await openRaw(farm.layover.url);
      connection.send(
        `PATCH ${pathOf(location)} HTTP/1.1\r\nHost: ${farm.layover.host}\r\nContent-Length: 500000000\r\n\r\n${"x".repeat(300_000)}`,
      );
      const answer = await connection.readAnswer();
      expect([answer.status, JSON.parse(new TextDecoder().decode(answer.body)).errors[0].code]).toEqual([
        status,
        "SIZE_INVALID",
      ]);
      connection.end();
      expect(farm.quay.count({ method: "PATCH" })).toBe(1);
    });
  }

  test("does not say where an upload goes on: 502, for nobody could go on with it", async () => {
    Object.assign(farm.quay.faults.push, { status: 202, body: "" });
    const begun = await pushRequest(place(), "/blobs/uploads/", { method: "POST" });
    expect([begun.status, await codeOf(begun)]).toEqual([502, "UNAVAILABLE"]);
  });

  test("answers 401 while the body still comes: nobody's push is told how to log in", async () => {
    const location = await beginUpload(place());
    farm.quay.faults.push.interrupt = { afterBytes: 1000, how: "answer" };
    farm.quay.faults.push.status = 401;
    const answer = await pushRequest(place(), location, { method: "PATCH", body });
    expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([
      401,
      expect.stringContaining(`scope="repository:quay/org/faulty:pull,push"`),
    ]);
  });

  test("[R111] refuses the token it gave, in the middle of a push: 503, for the client's next try has a new one", async () => {
    const mine: PushPlace = { ...place("/v2/org/renewed"), authorization: basicHeader("alice:secret") };
    const location = await beginUpload(mine);
    const patch = () => pushRequest(mine, location, { method: "PATCH", body: Buffer.alloc(100_000) });
    expect((await patch()).status).toBe(202);
    farm.hub.expireTokens();
    const refused = await patch();
    expect([refused.status, await codeOf(refused)]).toEqual([503, "UNAVAILABLE"]);
    const again = await patch();
    expect([again.status, again.headers.get("range")]).toEqual([202, "0-199999"]);
  });

  test("cannot be reached: 502 at once", async () => {
    const location = await beginUpload(place());
    farm.quay.closeIdle();
    farm.quay.faults.push.hangUp = "fin";
    const answer = await finishUpload(place(), location, { digest: digestOf(body), body });
    expect([answer.status, await codeOf(answer)]).toEqual([502, "UNAVAILABLE"]);
  });
});

test("a manifest that is refused for want of a layer, then pushed again with it", async () => {
  const image = makeImage({ seed: "twice" });
  expect((await pushManifest(place(), image, image.digest)).status).toBe(400);
  for (const [digest, bytes] of image.blobs)
    await finishUpload(place(), await beginUpload(place()), { digest, body: Buffer.from(bytes) });
  expect((await pushManifest(place(), image, image.digest)).status).toBe(201);
});

async function codeOf(response: Response): Promise<string | undefined> {
  const parsed = (await response.json()) as { errors?: { code: string }[] };
  return parsed.errors?.[0]?.code;
}
