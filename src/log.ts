/**
 * The log: pino, JSON lines by default, pretty where a person reads a terminal. Secrets are kept out at the call sites
 * (no header that carries one is ever logged whole); the redaction here is the second lock on that door.
 */
import pino, { type DestinationStream, type Logger } from "pino";
import pretty from "pino-pretty";
import { reasonOf, RegistryError, UpstreamError } from "./errors.ts";
import { createLogBatches } from "./log-batches.ts";

export type Log = Logger;

export interface LogOptions {
  readonly level: "trace" | "debug" | "info" | "warn" | "error";
  readonly format: "json" | "pretty";
}

/** Fields that would hold a secret if a caller were careless. */
const REDACTED = ["authorization", "proxy-authorization", "cookie", "set-cookie", "password", "token", "secret"];

export interface LogDependencies {
  /** Where lines go; standard output by default, where container runtimes look for them. */
  readonly destination?: DestinationStream;
}

export function createLog(options: LogOptions, dependencies: LogDependencies = {}): Log {
  const settings = {
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: shownError, cause: shownError },
    redact: { paths: REDACTED.flatMap((name) => [`["${name}"]`, `*["${name}"]`]), censor: "[redacted]" },
  };
  if (dependencies.destination !== undefined) return pino(settings, dependencies.destination);
  if (options.format === "pretty") {
    // A transport would run in a worker that a compiled binary cannot find; the stream runs in this thread.
    return pino(settings, pretty({ sync: true, colorize: process.stdout.isTTY, translateTime: "SYS:HH:MM:ss.l" }));
  }
  return pino(settings, batched());
}

/**
 * Failures that happen are no defects: their stack would only bury what they say. Of what is behind them only errors of ours are
 * shown, since others may quote URLs.
 */
function shownError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name: type, message } = error;
  if (error instanceof UpstreamError) return { type, message, kind: error.kind, status: error.status };
  if (!(error instanceof RegistryError)) return pino.stdSerializers.err(error);
  const reason = reasonOf(error);
  return { type, message, code: error.code, status: error.status, ...(reason !== message && { reason }) };
}

/**
 * The same log for lines that are made of named fields, none of which holds a secret: the redaction looks into every text
 * of every line, which costs as much as all the rest of an access line.
 */
export function withoutRedaction(log: Log): Log {
  return log.child({}, { redact: [] });
}

/** Standard output, written at once or in batches. */
function batched(): DestinationStream {
  const output = pino.destination({ fd: 1, sync: true });
  const batches = createLogBatches({
    output: (lines) => void output.write(lines),
    now: () => performance.now(),
    later: (callback, delayMs) => void setTimeout(callback, delayMs).unref(),
  });
  // However the program ends: after a drain, by `process.exit`, or by an error that nobody caught.
  process.on("exit", () => batches.flush());
  return Object.assign(batches, { [Symbol.for("pino.metadata")]: true });
}
