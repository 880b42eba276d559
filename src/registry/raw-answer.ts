/**
 * An error as raw bytes, for connections that cannot be given to the HTTP server or have left it: a request that does not
 * parse, CONNECT, a listener that refuses. Pure; holds only what the error holds, so nothing of the input is reflected.
 */
import type { RegistryError } from "../errors.ts";

/** A complete HTTP/1.1 answer in the OCI error form (protocol R32) that ends the connection. */
export function rawAnswer(error: RegistryError): string {
  const body = JSON.stringify(error);
  const lines = [
    `HTTP/1.1 ${error.status} ${REASONS[error.status] ?? "Error"}`,
    ...error.headers.map(([name, value]) => `${name}: ${value}`),
    "Content-Type: application/json",
    // Every character of our messages is ASCII, so characters are bytes.
    `Content-Length: ${body.length}`,
    "Connection: close",
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  405: "Method Not Allowed",
  408: "Request Timeout",
  414: "URI Too Long",
  431: "Request Header Fields Too Large",
  503: "Service Unavailable",
};
