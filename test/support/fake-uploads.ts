/**
 * Uploads at a fake registry, as the distribution specification has them: begun, mounted, sent at once or in pieces, asked
 * about, finished and given up. A piece out of order is 416, a wrong digest 400; nothing is kept before its digest is right.
 */
import { randomUUID } from "node:crypto";
import type { HeaderLine } from "../../src/errors.ts";
import type { FakeContent } from "./fake-content.ts";
import { errorBody, utf8, type Plan } from "./fake-delivery.ts";
import type { PushFaults } from "./fake-faults.ts";
import { digestOf } from "./images.ts";
import type { WireRequest } from "./wire-server.ts";

export interface FakeUploads {
  /** `POST …/blobs/uploads/` */
  begin(repository: string, request: WireRequest, faults: PushFaults): Plan;
  /** Everything that a Location leads to. */
  goOn(repository: string, id: string, request: WireRequest): Plan;
  /** The same at the address of the storage behind the registry: `/uploads/<id>`, which takes no Authorization. */
  elsewhere(request: WireRequest): Plan | undefined;
  /** Uploads that were begun and neither finished nor given up. */
  open(): number;
}

interface Upload {
  readonly repository: string;
  readonly style: NonNullable<PushFaults["location"]>;
  received: Uint8Array;
  /** Changes with each step, as the state that real registries sign and hang on their URLs. */
  state: string;
}

export interface FakeUploadsParts {
  readonly content: FakeContent;
  /** `http://127.0.0.1:41234` plus the base path; the storage's origin. */
  readonly urls: () => { readonly own: string; readonly storage: string };
}

export function createFakeUploads({ content, urls }: FakeUploadsParts): FakeUploads {
  const uploads = new Map<string, Upload>();

  function begin(repository: string, request: WireRequest, faults: PushFaults): Plan {
    const query = new URLSearchParams(request.query);
    const mounted = query.get("mount");
    if (mounted !== null) {
      const source = content.repositories.get(query.get("from") ?? "");
      const blob = source?.blobs.get(mounted);
      if (blob !== undefined) return store(repository, mounted, blob);
    }
    const digest = query.get("digest");
    if (digest !== null) return store(repository, digest, request.body);
    const id = randomUUID();
    const upload: Upload = {
      repository,
      style: faults.location ?? "relative",
      received: new Uint8Array(),
      state: randomUUID(),
    };
    uploads.set(id, upload);
    const plan = under(id, upload, 202);
    const shortest: HeaderLine[] =
      faults.chunkMinLength === undefined ? [] : [["OCI-Chunk-Min-Length", String(faults.chunkMinLength)]];
    return { ...plan, lines: [...plan.lines, ...shortest] };
  }

  function goOn(repository: string, id: string, request: WireRequest): Plan {
    const upload = uploads.get(id);
    if (upload === undefined || upload.repository !== repository)
      return refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    const query = new URLSearchParams(request.query);
    if (upload.style === "stateful" && query.get("_state") !== `${upload.state}=`)
      return refusal(400, "BLOB_UPLOAD_INVALID", "the state of the upload is not the one that was told last");
    return step(id, upload, { request, digest: query.get("digest") });
  }

  function step(id: string, upload: Upload, asked: { request: WireRequest; digest: string | null }): Plan {
    const { request, digest } = asked;
    if (request.method === "GET" || request.method === "HEAD") return under(id, upload, 204);
    if (request.method === "DELETE") {
      uploads.delete(id);
      return { status: 204, lines: [], body: new Uint8Array() };
    }
    if (!isNext(request, upload.received.length)) {
      const plan = under(id, upload, 416);
      return { ...plan, body: utf8(errorBody("BLOB_UPLOAD_INVALID", "the piece is out of order")) };
    }
    upload.received = Buffer.concat([upload.received, request.body]);
    upload.state = randomUUID();
    if (request.method === "PATCH") return under(id, upload, 202);
    if (request.method !== "PUT") return refusal(405, "UNSUPPORTED", "no such step of an upload");
    const plan = store(upload.repository, digest ?? "", upload.received);
    if (plan.status === 201) uploads.delete(id);
    return plan;
  }

  function store(repository: string, digest: string, bytes: Uint8Array): Plan {
    const algorithm = digest.startsWith("sha512:") ? "sha512" : "sha256";
    if (digestOf(bytes, algorithm) !== digest)
      return refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    content.add(repository, { blobs: new Map([[digest, bytes]]), manifests: new Map(), tags: new Map() });
    const lines: HeaderLine[] = [
      ["Location", `${new URL(urls().own).pathname.replace(/\/$/, "")}/v2/${repository}/blobs/${digest}`],
      ["Docker-Content-Digest", digest],
    ];
    return { status: 201, lines, body: new Uint8Array() };
  }

  /** An answer that says where the upload goes on and how far it is. */
  function under(id: string, upload: Upload, status: number): Plan {
    const last = Math.max(0, upload.received.length - 1);
    const lines: HeaderLine[] = [
      ["Location", locationOf(id, upload)],
      ["Range", `0-${last}`],
      ["Docker-Upload-UUID", id],
    ];
    return { status, lines, body: new Uint8Array() };
  }

  function locationOf(id: string, { style, repository, state }: Upload): string {
    const { own, storage } = urls();
    const base = new URL(own).pathname.replace(/\/$/, "");
    const path = `/v2/${repository}/blobs/uploads/${id}`;
    switch (style) {
      case "absolute":
        return `${own}${path}`;
      case "stateful": // the sign at the end and a plus: whoever parses the query and writes it anew changes it
        return `${own}${path}?_state=${state}=&a=b+c`;
      case "elsewhere":
        return `${storage}/uploads/${id}?X-Amz-Signature=${state}&part=%2F1`;
      case "relative":
        return `${base}${path}`;
    }
  }

  return {
    begin,
    goOn,
    elsewhere(request) {
      const id = /^\/uploads\/([^/]+)$/.exec(request.path)?.[1];
      if (id === undefined) return undefined;
      const upload = uploads.get(id);
      const query = new URLSearchParams(request.query);
      if (upload === undefined || query.get("X-Amz-Signature") !== upload.state || !request.query.includes("part=%2F1"))
        return refusal(403, "DENIED", "SignatureDoesNotMatch");
      return step(id, upload, { request, digest: query.get("digest") });
    },
    open: () => uploads.size,
  };
}

/** `0-99`, no unit (protocol R70); a request without the line goes on where the last one ended. */
function isNext(request: WireRequest, received: number): boolean {
  const line = request.headers.get("content-range");
  if (line === null) return true;
  const [, first = "", last = ""] = /^([0-9]+)-([0-9]+)$/.exec(line) ?? [];
  return first !== "" && Number(first) === received && Number(last) === received + request.body.length - 1;
}

function refusal(status: number, code: string, message: string): Plan {
  return { status, lines: [["Content-Type", "application/json"]], body: utf8(errorBody(code, message)) };
}
