import { describe, expect, test } from "bun:test";
import { rename } from "node:fs/promises";
import { fetchMap, type FetchMap } from "../../../src/config/map-fetch.ts";
import { createMapSource, type MapSourceDependencies } from "../../../src/config/map-source.ts";
import { ConfigError } from "../../../src/config/problem.ts";
import { StartError, type MapLocation, type MapSettings } from "../../../src/config/settings.ts";
import { createTempDir } from "../../support/temp-dir.ts";

interface Line {
  level: string;
  facts: Record<string, unknown>;
  message: string;
}

/** A source whose file, server, clock and folder are the test's. */
function bench() {
  const lines: Line[] = [];
  const write = (level: string) => (facts: object, message: string) =>
    void lines.push({ level, facts: { ...facts }, message });
  const state = { file: '{"a": "https://a"}', responses: [] as (() => Response)[], asked: [] as string[], closed: 0 };
  let fire: () => void = () => undefined;
  const until = (call: () => void) => {
    fire = call;
    return () => void (state.closed += 1);
  };
  const dependencies: MapSourceDependencies = {
    log: { info: write("info"), warn: write("warn"), error: write("error") } as unknown as MapSourceDependencies["log"],
    readFile: async () => state.file,
    async request(url) {
      state.asked.push(url.href);
      return state.responses.shift()?.() ?? new Response(null, { status: 503 });
    },
    every: (_ms, call) => until(call),
    watchFolder: (_folder, changed) => until(changed),
  };
  return { lines, state, dependencies, fire: () => fire() };
}

function settings(location: MapLocation, more: Partial<MapSettings> = {}): MapSettings {
  const none = { defaultRegistry: undefined, dockerHub: undefined, authRegistries: [], dockerConfig: undefined };
  return { location, refreshMs: 1000, ...none, verifyTls: true, ...more };
}

const FILE: MapLocation = { kind: "file", path: "/etc/layover/registrymap.json" };
const URL_LOCATION: MapLocation = { kind: "url", url: "https://maps.test/map.json?key=hunter2" };

describe("createMapSource()", () => {
  test("gives the built-in map", async () => {
    const source = await createMapSource(settings({ kind: "built-in" }), bench().dependencies);
    expect(source.current().default.key).toBe("docker");
    source.close();
  });

  test("[T27] takes a changed file, and says so", async () => {
    const { state, dependencies, fire, lines } = bench();
    const source = await createMapSource(settings(FILE), dependencies);
    const before = source.current();
    state.file = '{"b": "https://b"}';
    fire();
    await source.reload();
    expect(source.current().default.key).toBe("b");
    expect(before.default.key).toBe("a");
    expect(lines.map(({ message }) => message)).toContain("registry map loaded");
  });

  test("[T27] refuses a bad map with one line for each problem, and the old one stays", async () => {
    const { state, dependencies, lines } = bench();
    const source = await createMapSource(settings(FILE), dependencies);
    const before = source.current();
    state.file = '{"a": "ftp://a", "v2": "https://b"}';
    await source.reload();
    expect(source.current()).toBe(before);
    expect(lines.filter(({ level }) => level === "error").map(({ facts }) => facts["problem"])).toEqual([
      '/etc/layover/registrymap.json: a: expected an http or https URL, got "ftp://a"',
      "/etc/layover/registrymap.json: v2: expected another key: this one is a path of our own",
    ]);
  });

  test("[T27] keeps the old map while the file is gone", async () => {
    const { dependencies, lines } = bench();
    let isGone = false;
    const readFile = async (): Promise<string> => {
      if (isGone) throw new Error("ENOENT");
      return '{"a": "https://a"}';
    };
    const source = await createMapSource(settings(FILE), { ...dependencies, readFile });
    isGone = true;
    await source.reload();
    expect(source.current().default.key).toBe("a");
    expect(lines.at(-1)).toMatchObject({
      level: "error",
      facts: { problem: expect.stringContaining("cannot read the registry map") },
    });
  });

  test("does not read an unchanged text again when something else in the folder changed", async () => {
    const { dependencies, fire, lines } = bench();
    const source = await createMapSource(settings(FILE), dependencies);
    const before = source.current();
    fire();
    // A reload queues behind what the event started.
    const after = source.current();
    await source.reload();
    expect(after).toBe(before);
    expect(lines.filter(({ message }) => message === "registry map loaded")).toHaveLength(1);
  });

  test("reload() reads passwords again even when the map's own text is the same", async () => {
    const { dependencies } = bench();
    const files: Record<string, string> = {
      [FILE.path]: '{"a": {"upstreams": ["https://a"], "credentials": [{"username": "u", "passwordFile": "/pw"}]}}',
      "/pw": "old",
    };
    const source = await createMapSource(settings(FILE), {
      ...dependencies,
      readFile: async (path) => files[path] ?? "",
    });
    files["/pw"] = "new";
    await source.reload();
    expect(source.current().default.credentials).toMatchObject([{ source: { password: "new" } }]);
  });

  test("[T27] never lets an older text replace a newer one", async () => {
    const { dependencies } = bench();
    const waiting: PromiseWithResolvers<string>[] = [];
    let isFirst = true;
    const readFile = (): Promise<string> => {
      if (isFirst) {
        isFirst = false;
        return Promise.resolve('{"a": "https://a"}');
      }
      const next = Promise.withResolvers<string>();
      waiting.push(next);
      return next.promise;
    };
    const source = await createMapSource(settings(FILE), { ...dependencies, readFile });
    const both = [source.reload(), source.reload()];
    await Bun.sleep(0);
    expect(waiting).toHaveLength(1); // the second waits for the first to end
    waiting[0]?.resolve('{"b": "https://b"}');
    await both[0];
    await Bun.sleep(0);
    waiting[1]?.resolve('{"c": "https://c"}');
    await both[1];
    expect(source.current().default.key).toBe("c");
  });

  test("[C38] asks a URL again when the time has come", async () => {
    const { state, dependencies, fire } = bench();
    state.responses = [() => new Response('{"a": "https://a"}'), () => new Response('{"b": "https://b"}')];
    const source = await createMapSource(settings(URL_LOCATION), dependencies);
    fire();
    state.responses.push(() => new Response('{"b": "https://b"}'));
    await source.reload();
    expect(source.current().default.key).toBe("b");
    expect(state.asked).toHaveLength(3);
    source.close();
    expect(state.closed).toBe(1);
  });

  test("[C38, T27] keeps the old map while the URL fails, and names it without its query", async () => {
    const { state, dependencies, lines } = bench();
    state.responses = [() => new Response('{"a": "https://a"}')];
    const source = await createMapSource(settings(URL_LOCATION), dependencies);
    await source.reload();
    expect(source.current().default.key).toBe("a");
    const text = JSON.stringify(lines);
    expect(text).toContain("cannot get the registry map https://maps.test/map.json: expected status 200, got 503");
    expect(text).not.toContain("hunter2");
  });

  test("ends the start with an error that says so", async () => {
    const { state, dependencies } = bench();
    await expect(createMapSource(settings(URL_LOCATION), dependencies)).rejects.toBeInstanceOf(StartError);
    state.file = "{";
    await expect(createMapSource(settings(FILE), dependencies)).rejects.toBeInstanceOf(ConfigError);
  });

  test("warns when the credential of Docker Hub has no place to go", async () => {
    const { dependencies, lines } = bench();
    await createMapSource(settings(FILE, { dockerHub: { username: "u", password: "hunter2" } }), dependencies);
    expect(lines).toMatchObject([
      { level: "warn", message: expect.stringContaining("the credential of Docker Hub is not used") },
    ]);
  });

  test("goes on without a watch where the folder cannot be watched", async () => {
    const { dependencies, lines, state } = bench();
    const watchFolder = () => {
      throw new Error("ENOSPC: no watches left");
    };
    const source = await createMapSource(settings(FILE), { ...dependencies, watchFolder });
    expect(lines).toMatchObject([{ level: "warn", message: expect.stringContaining("send SIGHUP") }]);
    state.file = '{"b": "https://b"}';
    await source.reload();
    expect(source.current().default.key).toBe("b");
  });

  test("[T27] sees a file that is replaced by rename, as editors and Kubernetes do", async () => {
    await using dir = await createTempDir();
    const path = dir.file("map.json");
    await Bun.write(path, '{"a": "https://a"}');
    const loaded = Promise.withResolvers<void>();
    const { dependencies } = bench();
    const info = (_facts: object, message: string) => void (message === "registry map loaded" && loaded.resolve());
    const source = await createMapSource(settings({ kind: "file", path }), {
      log: { ...dependencies.log, info } as unknown as MapSourceDependencies["log"],
      readFile: (file) => Bun.file(file).text(),
      request: dependencies.request,
    });
    await Bun.write(dir.file("map.json.tmp"), '{"b": "https://b"}');
    await rename(dir.file("map.json.tmp"), path);
    await loaded.promise;
    expect(source.current().default.key).toBe("b");
    source.close();
  });
});

describe("fetchMap()", () => {
  const URL_TEXT = "https://maps.test/map.json";
  const answering = (...responses: Response[]): FetchMap => {
    return async () => responses.shift() ?? new Response(null, { status: 500 });
  };
  const redirect = (location: string, status = 302) => new Response(null, { status, headers: { location } });

  test("[C38] follows redirects within the host", async () => {
    const asked: string[] = [];
    const answers = answering(redirect("/other.json"), redirect("https://maps.test/x", 308), new Response("{}"));
    const text = await fetchMap(URL_TEXT, (url, signal) => (asked.push(url.href), answers(url, signal)));
    expect(text).toBe("{}");
    expect(asked).toEqual([URL_TEXT, "https://maps.test/other.json", "https://maps.test/x"]);
  });

  test.each([
    "https://evil.test/map.json",
    "http://maps.test/map.json",
    "https://maps.test:8443/map.json",
    "//evil.test/x",
    "https://",
  ])("[C38] refuses a redirect to %s", (location) =>
    expect(fetchMap(URL_TEXT, answering(redirect(location)))).rejects.toThrow("redirect to another host refused"),
  );

  test("[C38] ends an endless redirect", async () => {
    await expect(fetchMap(URL_TEXT, async () => redirect("/again"))).rejects.toThrow("more than 10 redirects");
  });

  test("[C38] takes a mebibyte and no more, and lets the rest go", async () => {
    const whole = "x".repeat(1024 * 1024);
    expect(await fetchMap(URL_TEXT, answering(new Response(whole)))).toHaveLength(1024 * 1024);
    let isCancelled = false;
    let rest = 64;
    const longer = new ReadableStream<Uint8Array>({
      pull: (controller) => (rest-- > 0 ? controller.enqueue(new Uint8Array(64 * 1024)) : controller.close()),
      cancel: () => void (isCancelled = true),
    });
    await expect(fetchMap(URL_TEXT, answering(new Response(longer)))).rejects.toThrow(
      "expected at most 1048576 bytes, got more",
    );
    expect(isCancelled).toBe(true);
  });

  test("[C38] refuses what is no text, and other statuses", async () => {
    await expect(fetchMap(URL_TEXT, answering(new Response(new Uint8Array([0xff, 0xfe]))))).rejects.toThrow(
      "cannot get the registry map",
    );
    await expect(fetchMap(URL_TEXT, answering(new Response("x", { status: 404 })))).rejects.toThrow(
      "expected status 200, got 404; check --registry-map",
    );
    await expect(fetchMap(URL_TEXT, answering(new Response(null, { status: 304 })))).rejects.toThrow("got 304");
  });
});
