/**
 * The log: pino, JSON lines by default, pretty where a person reads a terminal. Secrets are kept out at the call sites
 * (no header that carries one is ever logged whole); the redaction here is the second lock on that door.
 */
import pino, { type DestinationStream, type Logger } from "pino";
import pretty from "pino-pretty";

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
    redact: { paths: REDACTED.flatMap((name) => [`["${name}"]`, `*["${name}"]`]), censor: "[redacted]" },
  };
  if (dependencies.destination !== undefined) return pino(settings, dependencies.destination);
  if (options.format === "pretty") {
    // A transport would run in a worker that a compiled binary cannot find; the stream runs in this thread.
    return pino(settings, pretty({ sync: true, colorize: process.stdout.isTTY, translateTime: "SYS:HH:MM:ss.l" }));
  }
  return pino(settings, pino.destination({ fd: 1, sync: true }));
}
