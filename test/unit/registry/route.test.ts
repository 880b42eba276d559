import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { RegistryError } from "../../../src/errors.ts";
import { parseEndpoint } from "../../../src/registry/endpoint.ts";
import { parseHost } from "../../../src/registry/host.ts";
import { createPlainRegistry, createRegistryMap, type Registry } from "../../../src/registry/registry.ts";
import {
  registriesReachable,
  routeFor,
  type RouteRequest,
  routeScope,
  type RoutingOptions,
  scopeWithin,
  UnknownHostError,
} from "../../../src/registry/route.ts";

function registry(key: string, hosts: string[], more: Partial<Registry> = {}): Registry {
  const upstream = { origin: `https://${key}.test`, basePath: "", namePrefix: "" };
  return { ...createPlainRegistry(key, [upstream]), hosts, ...more };
}

const docker = registry("docker", ["docker.io"], { isDockerHub: true });
const quay = registry("quay", ["quay.io"]);
const ghcr = registry("ghcr", ["ghcr.io"]);
const k8s = registry("k8s", ["registry.k8s.io"], { singleNames: true });
const k8sgcr = registry("k8sgcr", ["k8s.gcr.io"], { keys: ["k8sgcr", "k8s-gcr"], singleNames: true });
const own = registry("own", ["reg.example:5000", "[::1]:5000", "localhost"]);
const others = ["gcr", "cloudsmith", "ecr", "docker-staging", "nvcr", "gitlab"].map((key) =>
  registry(key, [`${key}.test`]),
);
const map = createRegistryMap([docker, quay, ghcr, k8s, k8sgcr, own, ...others], docker);

const plain: RoutingOptions = { domainSuffix: undefined, strictHosts: false };
const suffixed: RoutingOptions = { ...plain, domainSuffix: "example.com" };

/** A request as people write it: `[Host ]/path[?ns=…&ns=…]`. */
function ask(line: string): RouteRequest {
  const [, host = "", path = "", query = ""] = /^([^/ ]*) ?(\/[^?]*)\??(.*)$/.exec(line) ?? [];
  const endpoint = parseEndpoint(path);
  if (endpoint === undefined) throw new Error(`no registry path: ${line}`);
  return {
    host: parseHost(host),
    before: endpoint.before,
    name: "name" in endpoint ? endpoint.name : "",
    namespaces: new URLSearchParams(query).getAll("ns"),
  };
}

/** `"quay org/app"`, or `"404 NAME_UNKNOWN"` of what it throws. */
function lead(line: string, options: RoutingOptions = plain): string {
  return verdict(() => {
    const route = routeFor(ask(line), map, options);
    return `${route.registry.key} ${route.repository}`;
  });
}

function verdict(decide: () => string): string {
  try {
    return decide();
  } catch (error) {
    if (error instanceof RegistryError) return `${error.status} ${error.code}`;
    throw error;
  }
}

describe("routeFor() by path", () => {
  test.each([
    ["/v2/library/nginx/manifests/x", "docker library/nginx"],
    ["/v2/org/app/manifests/x", "docker org/app"],
    ["/v2/a/b/c/manifests/x", "docker a/b/c"],
    ["127.0.0.1:5000 /v2/org/app/manifests/x", "docker org/app"],
    ["[2001:db8::1]:5000 /v2/org/app/manifests/x", "docker org/app"],
    ["mirror.test /v2/org/app/manifests/x", "docker org/app"],
  ])("[R190] a plain name on any host leads to the default registry: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test.each([
    ["/v2/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/v2/busybox/manifests/latest", "docker library/busybox"],
    ["/v2/docker.io/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/docker/v2/ubuntu/manifests/x", "docker library/ubuntu"],
    ["docker.io /v2/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/v2/ubuntu/manifests/x?ns=docker.io", "docker library/ubuntu"],
    ["/v2/library/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/v2/ghcr.io/ubuntu/manifests/x", "ghcr ubuntu"],
    ["/v2/k8s/pause/manifests/x", "k8s pause"],
    ["/v2/alpine/manifests/x?ns=quay.io", "quay alpine"],
  ])("[R127, C5] library/ is inserted for one word on Docker Hub, and only there: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test.each([
    ["/v2/quay.io/org/app/manifests/x", "quay org/app"],
    ["/v2/QUAY.io/org/app/manifests/x", "quay org/app"],
    ["/v2/quay.io:443/org/app/manifests/x", "quay org/app"],
    ["/v2/quay.io/app/manifests/x", "quay app"],
    ["/v2/reg.example:5000/a/manifests/x", "own a"],
    ["/v2/[::1]:5000/a/b/manifests/x", "own a/b"],
    ["/v2/localhost/a/manifests/x", "own a"],
    ["/v2/quay.io/quay/a/b/manifests/x", "quay quay/a/b"],
    ["/v2/quay/org/app/manifests/x", "quay org/app"],
    ["/v2/quay/org/sub/app/manifests/x", "quay org/sub/app"],
    ["/v2/docker/library/ubuntu/manifests/x", "docker library/ubuntu"],
  ])("[R16, R17, R190] a host or key of the map in front leads there: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test.each([
    ["/v2/docker/dockerfile/manifests/x", "docker docker/dockerfile"],
    ["/v2/quay/app/manifests/x", "docker quay/app"],
    ["/v2/quay/manifests/x", "docker library/quay"],
    ["/v2/k8s/pause/manifests/x", "k8s pause"],
    ["/v2/k8s/coredns/coredns/manifests/x", "k8s coredns/coredns"],
    ["/v2/k8s-gcr/pause/manifests/x", "k8sgcr pause"],
    ["/v2/k8s/manifests/x", "docker library/k8s"],
    ["/v2/quays/org/app/manifests/x", "docker quays/org/app"],
  ])("[R191] a bare key claims the path only with enough behind it: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test("[R16] localhost is a word like any other where the map does not know it", () => {
    const route = routeFor(ask("/v2/localhost/a/b/manifests/x"), createRegistryMap([docker, quay], docker), plain);
    expect([route.registry.key, route.repository]).toEqual(["docker", "localhost/a/b"]);
  });

  test.each([
    "/v2/unknown.example/a/b/manifests/x",
    "/v2/quay.io:5000/a/b/manifests/x",
    "/v2/reg.example/a/manifests/x",
    "/v2/localhost:5000/a/manifests/x",
    "/v2/evilquay.io/a/manifests/x",
    "/v2/quay.io.evil.example/a/manifests/x",
    "/v2/a_b.c/x/manifests/x",
    "/unknown/v2/a/b/manifests/x",
    "/unknown.example/v2/a/manifests/x",
    "/unknown.example/a/manifests/x",
    "/localhost:1/v2/a/manifests/x",
  ])("[R109, C12] a registry that the map lacks is a clear 404: %s", (line) => {
    expect(lead(line)).toBe("404 NAME_UNKNOWN");
  });

  test("[C12, C33] a 404 for an unknown registry points at the help", () => {
    expect(() => routeFor(ask("/v2/unknown.example/a/manifests/x"), map, plain)).toThrow(
      "registry not found: unknown.example, please visit /help for available registries",
    );
  });

  test.each(["/v2/quay.io/manifests/x", "/v2/docker.io/tags/list"])(
    "[R7] a host alone is no repository: %s",
    (line) => {
      expect(lead(line)).toBe("400 NAME_INVALID");
    },
  );

  test.each([
    ["/quay/v2/org/app/manifests/x", "quay org/app"],
    ["/quay.io/v2/org/app/manifests/x", "quay org/app"],
    ["/reg.example:5000/v2/a/manifests/x", "own a"],
    ["/index.docker.io/v2/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/quay/v2/quay.io/org/app/manifests/x", "quay org/app"],
    ["/quay/v2/quay/org/app/manifests/x", "quay org/app"],
    ["/quay/v2/ghcr/org/app/manifests/x", "quay ghcr/org/app"],
    ["/quay/v2/docker/manifests/x", "quay docker"],
    ["/docker/library/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/docker/ubuntu/manifests/x", "docker library/ubuntu"],
    ["/quay/prometheus/prometheus/manifests/x", "quay prometheus/prometheus"],
    ["/k8s-gcr/pause/manifests/x", "k8sgcr pause"],
    ["/nvcr/nvidia/cuda/manifests/x", "nvcr nvidia/cuda"],
    ["/gitlab/a/b/c/manifests/x", "gitlab a/b/c"],
  ])("[R171, R190, C8] what stands before /v2 names the registry: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test.each(["docker", "quay", "gcr", "k8s-gcr", "k8s", "ghcr", "cloudsmith", "nvcr", "gitlab"])(
    "[C8] /%s/… pulls in each form",
    (key) => {
      const expected = `${map.byKey.get(key)?.key} org/app`;
      expect(lead(`/v2/${key}/org/app/manifests/x`)).toBe(expected);
      expect(lead(`/${key}/v2/org/app/manifests/x`)).toBe(expected);
      expect(lead(`/${key}/org/app/manifests/x`)).toBe(expected);
    },
  );
});

describe("routeFor() by ns", () => {
  test.each([
    ["/v2/org/app/manifests/x?ns=quay.io", "quay org/app"],
    ["/v2/org/app/manifests/x?ns=QUAY.io", "quay org/app"],
    ["/v2/org/app/manifests/x?ns=reg.example%3A5000", "own org/app"],
    ["/v2/org/app/manifests/x?ns=%5B%3A%3A1%5D%3A5000", "own org/app"],
    ["/v2/org/app/manifests/x?mount=a&from=b&ns=ghcr.io", "ghcr org/app"],
    ["/v2/library/ubuntu/manifests/x?ns=docker.io", "docker library/ubuntu"],
    ["/v2/library/ubuntu/manifests/x?ns=index.docker.io", "docker library/ubuntu"],
    ["/v2/library/ubuntu/manifests/x?ns=registry-1.docker.io", "docker library/ubuntu"],
    ["/v2/library/ubuntu/manifests/x?ns=registry.hub.docker.com", "docker library/ubuntu"],
  ])("[R40, R126, R170, R256] decides: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test.each([
    ["/v2/quay.io/org/app/manifests/x?ns=quay.io", "quay org/app"],
    ["/v2/quay/org/app/manifests/x?ns=quay.io", "quay org/app"],
    ["/v2/quay/app/manifests/x?ns=quay.io", "quay quay/app"],
    ["/v2/docker/dockerfile/manifests/x?ns=docker.io", "docker docker/dockerfile"],
    ["/v2/ghcr/org/app/manifests/x?ns=quay.io", "quay ghcr/org/app"],
    ["/v2/k8s/pause/manifests/x?ns=registry.k8s.io", "k8s pause"],
    ["/v2/my.team/app/manifests/x?ns=quay.io", "quay my.team/app"],
    ["/v2/docker.io/ubuntu/manifests/x?ns=registry-1.docker.io", "docker library/ubuntu"],
    ["/quay/v2/org/app/manifests/x?ns=quay.io", "quay org/app"],
    ["quay.io /v2/org/app/manifests/x?ns=quay.io", "quay org/app"],
  ])("[R191] strips a first component only if it names the same registry: %s", (line, expected) => {
    expect(lead(line)).toBe(expected);
  });

  test.each([
    "/v2/ghcr.io/org/app/manifests/x?ns=quay.io",
    "/v2/ghcr.io/app/manifests/x?ns=quay.io",
    "/v2/reg.example:5000/app/manifests/x?ns=quay.io",
    "/v2/unknown.example:5000/app/manifests/x?ns=quay.io",
    "/ghcr/v2/org/app/manifests/x?ns=quay.io",
    "/ghcr/org/app/manifests/x?ns=quay.io",
    "ghcr.io /v2/org/app/manifests/x?ns=quay.io",
    "ghcr.io /quay/v2/org/app/manifests/x",
    "ghcr.io /v2/quay.io/org/app/manifests/x",
    "/quay/v2/ghcr.io/org/app/manifests/x",
  ])("[R191] refuses two registries in one request: %s", (line) => {
    expect(lead(line)).toBe("400 NAME_INVALID");
  });

  test.each(["/v2/a/manifests/x?ns=quay.io&ns=ghcr.io", "/v2/a/manifests/x?ns=quay.io&ns=quay.io"])(
    "[R170] refuses it when repeated: %s",
    (line) => {
      expect(lead(line)).toBe("400 NAME_INVALID");
    },
  );

  test.each([
    "169.254.169.254",
    "169.254.169.254:80",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::1]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "localhost:5000",
    "metadata.google.internal",
    "unknown.example",
    "quay",
    "evilquay.io",
    "quay.io.evil.example",
    "docker.io:5000",
  ])("[R109, T18] leads nowhere when the map lacks it: ns=%s", (namespace) => {
    expect(lead(`/v2/a/b/manifests/x?ns=${encodeURIComponent(namespace)}`)).toBe("404 NAME_UNKNOWN");
  });

  test.each([
    "",
    "[::ffff:169.254.169.254]",
    "[fe80::1%25eth0]",
    "user@quay.io",
    "quay.io/../x",
    "https://quay.io",
    "quay.io?x",
    "quay.io\r\nX: y",
    "quay.io.",
    " quay.io",
  ])("[R17, R109, T18] is refused when it is no host: ns=%j", (namespace) => {
    expect(lead(`/v2/a/b/manifests/x?ns=${encodeURIComponent(namespace)}`)).toBe("400 NAME_INVALID");
  });
});

describe("routeFor() by host", () => {
  test.each([
    ["ghcr.io", "ghcr org/app"],
    ["GHCR.IO:5000", "ghcr org/app"],
    ["docker.io", "docker org/app"],
    ["registry-1.docker.io:443", "docker org/app"],
    ["reg.example:5000", "own org/app"],
    ["localhost", "own org/app"],
    ["localhost:8080", "own org/app"],
    ["reg.example:6000", "docker org/app"],
  ])("[R126] %s leads to the registry that is known by it", (host, expected) => {
    expect(lead(`${host} /v2/org/app/manifests/x`)).toBe(expected);
  });

  test.each([
    ["docker.example.com", "docker org/app"],
    ["quay.example.com", "quay org/app"],
    ["gcr.example.com", "gcr org/app"],
    ["k8s-gcr.example.com", "k8sgcr org/app"],
    ["k8s.example.com", "k8s org/app"],
    ["ghcr.example.com", "ghcr org/app"],
    ["cloudsmith.example.com", "cloudsmith org/app"],
    ["ecr.example.com", "ecr org/app"],
    ["docker-staging.example.com", "docker-staging org/app"],
    ["GHCR.Example.COM:8443", "ghcr org/app"],
    ["example.com", "docker org/app"],
    ["example.com:5000", "docker org/app"],
    ["evilexample.com", "docker org/app"],
    ["ghcr.evilexample.com", "docker org/app"],
    ["ghcr.example.com.evil.test", "docker org/app"],
    ["192.0.2.7:5000", "docker org/app"],
  ])("[C7] under the suffix example.com, %s leads to %s", (host, expected) => {
    expect(lead(`${host} /v2/org/app/manifests/x`, suffixed)).toBe(expected);
  });

  test.each([
    ["ghcr.example.com /v2/ghcr/org/app/manifests/x", "ghcr org/app"],
    ["ghcr.example.com /v2/ghcr.io/app/manifests/x", "ghcr app"],
    ["ghcr.example.com /v2/quay/org/app/manifests/x", "ghcr quay/org/app"],
    ["ghcr.example.com /v2/quay.io/org/app/manifests/x", "400 NAME_INVALID"],
    ["ghcr.example.com /v2/org/app/manifests/x?ns=quay.io", "400 NAME_INVALID"],
    ["ghcr.example.com /v2/org/app/manifests/x?ns=ghcr.io", "ghcr org/app"],
    ["example.com /v2/quay/org/app/manifests/x", "quay org/app"],
    ["example.com /v2/org/app/manifests/x?ns=quay.io", "quay org/app"],
  ])("[R191] a registry's own host is the registry: %s", (line, expected) => {
    expect(lead(line, suffixed)).toBe(expected);
  });

  test.each(["nope.example.com", "a.b.example.com", "a.ghcr.example.com", "v2.example.com"])(
    "[C33] %s, unknown under the suffix, is a 404 with the message people know",
    (host) => {
      const request = ask(`${host} /v2/org/app/manifests/x`);
      expect(lead(`${host} /v2/org/app/manifests/x`, suffixed)).toBe("404 NAME_UNKNOWN");
      expect(() => routeFor(request, map, suffixed)).toThrow(
        `registry not found: ${host}, please visit /help for available registries`,
      );
    },
  );

  test("[C33] a registry's own host may lie under the suffix", () => {
    const inside = registry("inside", ["harbor.example.com"]);
    const route = routeFor(
      ask("harbor.example.com /v2/a/manifests/x"),
      createRegistryMap([docker, inside], docker),
      suffixed,
    );
    expect(route.registry).toBe(inside);
  });

  test.each(["192.0.2.7", "other.test", "evilexample.com", "nope.example.com", ""])(
    "[C1] strict hosts refuse %j with the routes",
    (host) => {
      const strict = { ...suffixed, strictHosts: true };
      const refusal = refusalOf(() => routeFor(ask(`${host} /v2/org/app/manifests/x?ns=quay.io`), map, strict));
      expect(refusal).toBeInstanceOf(UnknownHostError);
      expect(refusal).toMatchObject({ status: 404, code: "NAME_UNKNOWN" });
      const { routes } = refusal as UnknownHostError;
      expect(routes).toContain("ghcr.example.com");
      expect(routes).toContain("k8s-gcr.example.com");
      expect(refusal?.detail).toEqual({ routes });
    },
  );

  test("[C1] strict hosts leave known hosts alone, and without a suffix name the registries' own", () => {
    const strict = { ...suffixed, strictHosts: true };
    expect(lead("ghcr.example.com /v2/a/manifests/x", strict)).toBe("ghcr a");
    expect(lead("example.com /v2/a/b/manifests/x", strict)).toBe("docker a/b");
    expect(lead("ghcr.io /v2/a/manifests/x", strict)).toBe("ghcr a");
    const refusal = refusalOf(() => routeFor(ask("x.test /v2/a/manifests/x"), map, { ...plain, strictHosts: true }));
    expect(refusal?.detail).toMatchObject({ routes: expect.arrayContaining(["ghcr.io", "quay.io"]) });
  });
});

function refusalOf(decide: () => unknown): RegistryError | undefined {
  try {
    decide();
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  return undefined;
}

describe("routeFor()", () => {
  test("[R40, R48] keeps what answers need: the name as asked, the prefix, the ns as written", () => {
    expect(routeFor(ask("/v2/quay.io/org/app/tags/list?ns=Quay.io"), map, plain)).toEqual({
      registry: quay,
      repository: "org/app",
      requested: "quay.io/org/app",
      pathPrefix: "",
      namespace: "Quay.io",
    });
    expect(routeFor(ask("/quay.io/v2/org/app/tags/list"), map, plain)).toMatchObject({
      requested: "org/app",
      pathPrefix: "/quay.io",
      namespace: undefined,
    });
    expect(routeFor(ask("/docker/ubuntu/tags/list"), map, plain)).toMatchObject({
      repository: "library/ubuntu",
      requested: "ubuntu",
      pathPrefix: "/docker",
    });
  });

  test("[R109, T18] leads to a registry of the map or nowhere, and to a sound name, whatever comes", () => {
    const words = [
      "quay",
      "quay.io",
      "docker.io",
      "docker",
      "k8s",
      "localhost",
      "169.254.169.254",
      "[::1]:5000",
      "x.example",
      "a",
      "b",
      "..",
      "",
      "A",
    ];
    const word = fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 4 }));
    const request = fc.record({
      host: fc
        .option(fc.constantFrom("ghcr.io", "quay.example.com", "nope.example.com", "example.com", "192.0.2.1"), {
          nil: "",
        })
        .map(parseHost),
      before: fc.option(word, { nil: undefined }),
      name: fc.array(word, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/")),
      namespaces: fc.array(word, { maxLength: 2 }),
    });
    const options = fc.constantFrom(plain, suffixed, { ...suffixed, strictHosts: true });
    fc.assert(
      fc.property(request, options, (asked, chosen) => {
        verdict(() => {
          const route = routeFor(asked, map, chosen);
          expect(map.registries).toContain(route.registry);
          expect(route.repository).toMatch(/^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/);
          return "";
        });
      }),
      { numRuns: 5000 },
    );
  });
});

describe("registriesReachable()", () => {
  function reach(line: string, options: RoutingOptions = suffixed): string {
    return verdict(() => {
      const reachable = registriesReachable(ask(line), map, options);
      return `${reachable.only?.key ?? "any"} of ${reachable.registries.length}, else ${reachable.default.key}`;
    });
  }

  test.each([
    ["quay.example.com /v2/", "quay of 1, else quay"],
    ["ghcr.io /v2/", "ghcr of 1, else ghcr"],
    ["/quay/v2/", "quay of 1, else quay"],
    ["/v2/?ns=quay.io", "quay of 1, else quay"],
    ["example.com /v2/", "any of 12, else docker"],
    ["127.0.0.1 /v2/", "any of 12, else docker"],
    ["/v2/", "any of 12, else docker"],
    ["quay.example.com /v2/?ns=ghcr.io", "400 NAME_INVALID"],
    ["nope.example.com /v2/", "404 NAME_UNKNOWN"],
    ["/unknown/v2/", "404 NAME_UNKNOWN"],
    ["/v2/?ns=unknown.example", "404 NAME_UNKNOWN"],
  ])("[R4, R190] the ping %s reaches %s", (line, expected) => {
    expect(reach(line)).toBe(expected);
  });
});

describe("routeScope()", () => {
  function scope(name: string, host = "127.0.0.1:5000"): string | undefined {
    const route = routeScope(name, parseHost(host), map, suffixed);
    return route && `${route.registry.key} ${route.repository}`;
  }

  test.each([
    ["library/ubuntu", "docker library/ubuntu"],
    ["ubuntu", "docker library/ubuntu"],
    ["quay.io/org/app", "quay org/app"],
    ["docker.io/ubuntu", "docker library/ubuntu"],
    ["index.docker.io/ubuntu", "docker library/ubuntu"],
    ["reg.example:5000/a", "own a"],
    ["docker/library/ubuntu", "docker library/ubuntu"],
  ])("[R120, R127] maps %s as paths are mapped", (name, expected) => {
    expect(scope(name)).toBe(expected);
  });

  test("[R120] a bare key selects no registry: containerd sends an image's own name with its secret", () => {
    expect(scope("quay/org/app")).toBe("docker quay/org/app");
    expect(scope("k8s/pause")).toBe("docker k8s/pause");
  });

  test.each(["unknown.example/a/b", "unknown.example:5000/a", "quay.io", "A/b", "", "a//b", "../x"])(
    "[R109] ignores %j, which means no repository here",
    (name) => {
      expect(scope(name)).toBeUndefined();
    },
  );

  test("[R120] on a registry's own host everything is its own, and other hosts are foreign", () => {
    expect(scope("org/app", "quay.example.com")).toBe("quay org/app");
    expect(scope("quay/org/app", "quay.example.com")).toBe("quay org/app");
    expect(scope("ghcr/org/app", "quay.example.com")).toBe("quay ghcr/org/app");
    expect(scope("ghcr.io/org/app", "quay.example.com")).toBeUndefined();
  });

  test("[C33] refuses a host that paths refuse", () => {
    expect(() => scope("a/b", "nope.example.com")).toThrow("registry not found: nope.example.com");
  });
});

describe("scopeWithin()", () => {
  test.each([
    [quay, "org/app", "org/app"],
    [quay, "quay/org/app", "org/app"],
    [quay, "quay.io/org/app", "org/app"],
    [quay, "app", "app"],
    [docker, "ubuntu", "library/ubuntu"],
    [docker, "docker.io/ubuntu", "library/ubuntu"],
    [quay, "ghcr.io/org/app", undefined],
    [quay, "A", undefined],
  ] as const)("[R120, R127] keeps to the registry of the realm: %#", (within, name, repository) => {
    const expected = repository === undefined ? undefined : { registry: within, repository };
    expect(scopeWithin(within, name, map)).toEqual(expected);
  });
});
