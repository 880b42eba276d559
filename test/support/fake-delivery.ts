/**
 * Writes one planned answer to the wire with the faults it shall have: framing, cuts, stalls, speed, wrong bytes.
 * The plan is what an honest registry would say; nothing here knows repositories.
 */
import { gzipSync } from "node:zlib";
import type { HeaderLine } from "../../src/errors.ts";
import type { AnswerFaults } from "./fake-faults.ts";
import { encodeHead, type WireAnswer, type WireRequest } from "./wire-server.ts";

export interface Plan {
  readonly status: number;
  readonly lines: HeaderLine[];
  readonly body: Uint8Array;
  /** A blob: single, suffix and open ranges are answered with 206. */
  readonly isRangeable?: boolean;
}

/** Holds stalled requests until the test lets them go. */
export interface Gate {
  pass(answer: WireAnswer): Promise<void>;
  release(): void;
  /** Resolves when at least so many requests are held. */
  untilHeld(count: number): Promise<void>;
}

export interface Delivery {
  readonly gate: Gate;
  /** Called with the count of body bytes given to the socket. */
  readonly sent: (bytes: number) => void;
}

const CHUNK_BYTES = 256 * 1024;

export async function deliver(
  exchange: { request: WireRequest; answer: WireAnswer },
  plan: Plan,
  faults: AnswerFaults,
  delivery: Delivery,
): Promise<void> {
  const { request, answer } = exchange;
  if (faults.hangUp) return answer.finish(faults.hangUp);
  if (faults.stallBeforeHeaders) await delivery.gate.pass(answer);
  const spoiled = spoil(applyRange(request, withStatus(request, plan, faults), faults), faults);
  const framing = faults.framing ?? "length";
  const isBodiless = request.method === "HEAD" || spoiled.status === 204 || spoiled.status === 304;
  const head = encodeHead(
    spoiled.status,
    headLines(spoiled, faults, isBodiless),
    framing === "eof" ? "HTTP/1.0" : "HTTP/1.1",
  );
  if (!(await answer.write(head))) return answer.finish("reset");
  if (isBodiless) return answer.finish(endOf(request, spoiled, framing));
  const how = await writeBody(answer, spoiled.body, faults, delivery);
  if (how === "cut") return answer.finish(faults.cutWith === "fin" ? "fin" : "reset");
  if (framing === "chunked") await answer.write("0\r\n\r\n");
  answer.finish(endOf(request, spoiled, framing));
}

function withStatus(request: WireRequest, plan: Plan, faults: AnswerFaults): Plan {
  const status = request.method === "HEAD" ? (faults.headStatus ?? faults.status) : faults.status;
  const json: HeaderLine = ["Content-Type", "application/json"];
  if (faults.html)
    return { status: 200, lines: [["Content-Type", "text/html"]], body: utf8("<html><body>Sign in</body></html>") };
  if (status === undefined) return plan;
  const retry: HeaderLine[] = faults.retryAfter === undefined ? [] : [["Retry-After", faults.retryAfter]];
  const body = faults.body ?? errorBody(faults.code ?? codeOf(status), `fault ${status}`);
  return { status, lines: [json, ...retry], body: utf8(body) };
}

function applyRange(request: WireRequest, plan: Plan, faults: AnswerFaults): Plan {
  const header = request.headers.get("range");
  if (header === null || !plan.isRangeable || request.method !== "GET" || plan.status !== 200 || faults.ignoreRange)
    return plan;
  const spec = /^bytes=(\d*)-(\d*)$/.exec(header);
  if (spec === null || (spec[1] === "" && spec[2] === "")) return plan;
  const total = plan.body.length;
  const isSuffix = spec[1] === "";
  const start = isSuffix ? Math.max(0, total - Number(spec[2])) : Number(spec[1]);
  const end = isSuffix || spec[2] === "" ? total - 1 : Math.min(Number(spec[2]), total - 1);
  if (start > end) return { status: 416, lines: [["Content-Range", `bytes */${total}`]], body: new Uint8Array() };
  const range = faults.contentRange ?? `bytes ${start}-${end}/${total}`;
  const lines: HeaderLine[] = range === false ? plan.lines : [...plan.lines, ["Content-Range", range]];
  return { status: 206, lines, body: plan.body.subarray(start, end + 1) };
}

function spoil(plan: Plan, faults: AnswerFaults): Plan {
  let { body } = plan;
  let lines = plan.lines;
  if (faults.corrupt && body.length > 0) {
    body = Uint8Array.from(body);
    const at = body.length >> 1;
    body[at] = (body[at] ?? 0) ^ 1;
  }
  if (faults.gzip) {
    body = gzipSync(body);
    lines = [...lines, ["Content-Encoding", "gzip"]];
  }
  if (faults.contentType !== undefined) lines = replace(lines, "Content-Type", faults.contentType);
  if (faults.digestHeader !== undefined) lines = replace(lines, "Docker-Content-Digest", faults.digestHeader);
  return { ...plan, lines, body };
}

function headLines(plan: Plan, faults: AnswerFaults, isBodiless: boolean): HeaderLine[] {
  const lines: HeaderLine[] = [...plan.lines, ...(faults.headers ?? [])];
  const framing = faults.framing ?? "length";
  if (framing === "chunked" && !isBodiless) lines.push(["Transfer-Encoding", "chunked"]);
  const length = faults.contentLength ?? (framing === "length" ? plan.body.length : false);
  if (length !== false && plan.status !== 204 && plan.status !== 304) lines.push(["Content-Length", String(length)]);
  lines.push(["Date", new Date().toUTCString()]);
  return lines;
}

async function writeBody(
  answer: WireAnswer,
  body: Uint8Array,
  faults: AnswerFaults,
  delivery: Delivery,
): Promise<"cut" | "done"> {
  const until = Math.min(body.length, faults.cutAfterBytes ?? body.length);
  const slice = faults.bytesPerSecond === undefined ? CHUNK_BYTES : Math.max(1, Math.floor(faults.bytesPerSecond / 50));
  let at = 0;
  let isHeld = false;
  while (at < until || (faults.stallAfterBytes === at && !isHeld)) {
    if (faults.stallAfterBytes === at && !isHeld) {
      isHeld = true;
      await delivery.gate.pass(answer);
      continue;
    }
    const stop =
      !isHeld && faults.stallAfterBytes !== undefined && faults.stallAfterBytes > at ? faults.stallAfterBytes : until;
    const chunk = body.subarray(at, Math.min(at + slice, until, stop));
    if (faults.framing === "chunked") await answer.write(`${chunk.length.toString(16)}\r\n`);
    if (!(await answer.write(chunk))) return "cut";
    if (faults.framing === "chunked") await answer.write("\r\n");
    delivery.sent(chunk.length);
    at += chunk.length;
    if (faults.bytesPerSecond !== undefined) await pause((chunk.length / faults.bytesPerSecond) * 1000, answer);
  }
  return until < body.length && faults.cutWith !== "complete" ? "cut" : "done";
}

function endOf(request: WireRequest, plan: Plan, framing: string): "keep" | "fin" {
  const says = (lines: readonly HeaderLine[]) =>
    lines.some(([name, value]) => /^connection$/i.test(name) && /\bclose\b/i.test(value));
  return framing === "eof" || request.version === "HTTP/1.0" || says(request.lines) || says(plan.lines)
    ? "fin"
    : "keep";
}

export function createGate(): Gate {
  let held = 0;
  let open: () => void = () => {};
  let opened = new Promise<void>((resolve) => (open = resolve));
  const watchers = new Set<() => void>();
  return {
    async pass(answer) {
      held++;
      for (const watcher of watchers) watcher();
      await Promise.race([opened, answer.gone]);
      held--;
    },
    release() {
      open();
      opened = new Promise<void>((resolve) => (open = resolve));
    },
    async untilHeld(count) {
      while (held < count) await new Promise<void>((resolve) => watchers.add(resolve));
    },
  };
}

/** The JSON of the distribution specification (protocol R32). */
export function errorBody(code: string, message: string, detail?: unknown): string {
  return JSON.stringify({ errors: [{ code, message, ...(detail !== undefined && { detail }) }] });
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function codeOf(status: number): string {
  const codes: Record<number, string> = {
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "MANIFEST_UNKNOWN",
    405: "UNSUPPORTED",
    429: "TOOMANYREQUESTS",
  };
  return codes[status] ?? (status >= 500 ? "UNAVAILABLE" : "UNKNOWN");
}

function replace(lines: readonly HeaderLine[], name: string, value: string | false): HeaderLine[] {
  const others = lines.filter(([other]) => other.toLowerCase() !== name.toLowerCase());
  return value === false ? others : [...others, [name, value]];
}

async function pause(ms: number, answer: WireAnswer): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([new Promise<void>((resolve) => (timer = setTimeout(resolve, ms))), answer.gone]);
  clearTimeout(timer);
}
