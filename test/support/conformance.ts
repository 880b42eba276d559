/**
 * What the distribution specification 1.1 lets clients do in push, content discovery and content management, as one
 * sequence of requests. It is run straight at a registry and through Layover; both must answer alike.
 */
import { digestOf, makeArtifact, makeImage, randomBytes } from "./images.ts";

export interface ConformancePlace {
  /** `"http://127.0.0.1:5000"` */
  readonly origin: string;
  /** What stands before the repository: `""`, or `"quay.io/"` behind a proxy. */
  readonly prefix: string;
}

/** What counts of an answer, with whatever differs from run to run put away. */
export interface Observed {
  readonly step: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** JSON, or the digest of what is none. */
  readonly body: unknown;
}

const COUNTED = [
  "content-type",
  "content-length",
  "docker-content-digest",
  "range",
  "content-range",
  "oci-subject",
  "oci-tag",
  "oci-filters-applied",
  "oci-chunk-min-length",
  "link",
];

export interface Conformance {
  /** Requests in order; each sees what the ones before it left. */
  run(): Promise<Observed[]>;
}

/** @param seed makes the content of a run its own, since registries share blobs between repositories */
export function createConformance({ origin, prefix }: ConformancePlace, seed: string): Conformance {
  const image = makeImage({ seed: `conformance ${seed}`, layers: [4000] });
  const second = makeImage({ seed: `conformance second ${seed}`, layers: [100] });
  const artifact = makeArtifact({ subject: image });
  const content = randomBytes(`conformance blob ${seed}`, 6000);
  const digest = digestOf(content);
  const absent = digestOf(randomBytes(`absent ${seed}`, 10));
  const base = (name: string): string => `${origin}/v2/${prefix}${name}`;
  const seen: Observed[] = [];
  let location = "";

  async function ask(step: string, method: string, url: string, init: RequestInit = {}): Promise<Response> {
    const headers = { accept: ACCEPT, ...(init.headers as Record<string, string> | undefined) };
    const response = await fetch(url, { redirect: "manual", ...init, method, headers });
    const named = response.headers.get("location");
    if (named !== null) location = new URL(named, url).href;
    seen.push(await observe(step, response, named === null ? undefined : kindOf(location)));
    return response;
  }

  /** The same repository and content by any name. */
  function kindOf(url: string): string {
    const path = new URL(url).pathname.replace(`/v2/${prefix}`, "/v2/");
    return path.replace(/\/blobs\/uploads\/.+/, "/blobs/uploads/…").replaceAll(digest, "DIGEST");
  }

  async function observe(step: string, response: Response, leads: string | undefined): Promise<Observed> {
    const headers: Record<string, string> = leads === undefined ? {} : { location: leads };
    const isError = response.status >= 400;
    for (const name of COUNTED) {
      const value = response.headers.get(name);
      if (value === null || (isError && /^content-(type|length)$/.test(name))) continue;
      // Empty answers tell it or not; lists hold the name that was asked for, which has another length.
      if (name === "content-length" && (value === "0" || step.startsWith("tags"))) continue;
      if (name === "content-type")
        headers[name] = value.replace(/;.*/, ""); // with or without a charset
      else headers[name] = name === "link" ? value.replaceAll(`/v2/${prefix}`, "/v2/").replace(origin, "") : value;
    }
    const bytes = await response.bytes();
    return { step, status: response.status, headers, body: bodyOf(bytes, isError) };
  }

  function bodyOf(bytes: Uint8Array, isError: boolean): unknown {
    if (bytes.length === 0) return undefined;
    try {
      const value = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
      if (isError) return (value["errors"] as { code: string }[] | undefined)?.map(({ code }) => code);
      return typeof value["name"] === "string" ? { ...value, name: value["name"].replace(prefix, "") } : value;
    } catch {
      return digestOf(bytes); // a blob
    }
  }

  const withDigest = (of: string): string => `${location}${location.includes("?") ? "&" : "?"}digest=${of}`;
  const blob = (from = 0, to = content.length) => Buffer.from(content.subarray(from, to));
  const octets = { "content-type": "application/octet-stream" };

  async function uploads(name: string): Promise<void> {
    const start = (step: string, query = "") => ask(step, "POST", `${base(name)}/blobs/uploads/${query}`);
    await start("POST begins");
    await ask("PUT at once", "PUT", withDigest(digest), { body: blob(), headers: octets });
    await ask("GET of what was made", "GET", `${base(name)}/blobs/${digest}`);
    await ask("HEAD of what was made", "HEAD", `${base(name)}/blobs/${digest}`);
    await ask("part of what was made", "GET", `${base(name)}/blobs/${digest}`, { headers: { range: "bytes=10-19" } });
    await start("begins again");
    const piece = (step: string, from: number, to: number) =>
      ask(step, "PATCH", location, {
        body: blob(from, to),
        headers: { ...octets, "content-range": `${from}-${to - 1}` },
      });
    await piece("first piece", 0, 3000);
    const good = location;
    await ask("state", "GET", location);
    await piece("piece out of order", 5000, 6000);
    location = good;
    await ask("state after it", "GET", location);
    await piece("next piece", 3000, 6000);
    await ask("PUT ends", "PUT", withDigest(digest));
    await start("a third");
    await ask("wrong digest", "PUT", withDigest(absent), { body: blob(), headers: octets });
    await start("a fourth");
    await ask("no digest", "PUT", location, { body: blob(), headers: octets });
    await ask("bad digest", "PUT", withDigest("sha256:short"), { body: blob(), headers: octets });
    await start("a fifth");
    await ask("given up", "DELETE", location);
    await ask("state of what is given up", "GET", location);
    await ask(
      "mount",
      "POST",
      `${base(`${name}-mount`)}/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(prefix + name)}`,
    );
    await ask(
      "mount of nothing",
      "POST",
      `${base(`${name}-mount`)}/blobs/uploads/?mount=${absent}&from=${encodeURIComponent(prefix + name)}`,
    );
    await ask("HEAD of what is not there", "HEAD", `${base(name)}/blobs/${absent}`);
    await ask("GET of what is not there", "GET", `${base(name)}/blobs/${absent}`);
  }

  async function manifests(name: string): Promise<void> {
    const put = (step: string, of: typeof image | typeof artifact, reference: string) => {
      const manifest = of.manifests.get(of.digest);
      return ask(step, "PUT", `${base(name)}/manifests/${reference}`, {
        body: Buffer.from(manifest?.bytes ?? new Uint8Array()),
        headers: { "content-type": manifest?.mediaType ?? "" },
      });
    };
    await put("manifest without its blobs", image, "v1");
    for (const each of [image, second, artifact])
      for (const [of, bytes] of each.blobs) {
        await ask(`blob of an image begins`, "POST", `${base(name)}/blobs/uploads/`);
        await ask(`blob of an image`, "PUT", withDigest(of), { body: Buffer.from(bytes), headers: octets });
      }
    await put("manifest by tag", image, "v1");
    await put("manifest by digest", image, image.digest);
    await put("manifest under another digest", image, absent);
    await put("another by tag", second, "v2");
    await put("artifact", artifact, artifact.digest);
    await ask("no manifest", "PUT", `${base(name)}/manifests/v3`, {
      body: "no JSON",
      headers: { "content-type": image.mediaType },
    });
    for (const reference of ["v1", image.digest, "none", absent])
      for (const method of ["HEAD", "GET"])
        await ask(`${method} manifest`, method, `${base(name)}/manifests/${reference}`);
    for (const query of ["", "?n=1", "?n=1&last=v1", "?n=0"])
      await ask(`tags${query}`, "GET", `${base(name)}/tags/list${query}`);
    for (const of of [image.digest, absent]) await ask("referrers", "GET", `${base(name)}/referrers/${of}`);
    await ask("referrers, filtered", "GET", `${base(name)}/referrers/${image.digest}?artifactType=a/b`);
  }

  async function management(name: string): Promise<void> {
    await ask("DELETE of a tag", "DELETE", `${base(name)}/manifests/v2`);
    await ask("GET of that tag", "GET", `${base(name)}/manifests/v2`);
    await ask("DELETE of a manifest", "DELETE", `${base(name)}/manifests/${image.digest}`);
    await ask("GET of that manifest", "GET", `${base(name)}/manifests/${image.digest}`);
    await ask("GET of its tag", "GET", `${base(name)}/manifests/v1`);
    await ask("DELETE of it again", "DELETE", `${base(name)}/manifests/${image.digest}`);
    await ask("DELETE of a blob", "DELETE", `${base(name)}/blobs/${digest}`);
    await ask("GET of that blob", "GET", `${base(name)}/blobs/${digest}`);
    await ask("DELETE of a blob that is not there", "DELETE", `${base(name)}/blobs/${absent}`);
    await ask("tags at the end", "GET", `${base(name)}/tags/list`);
  }

  return {
    async run() {
      await uploads("conformance/app");
      await manifests("conformance/app");
      await management("conformance/app");
      return seen;
    },
  };
}

const ACCEPT =
  "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*";
