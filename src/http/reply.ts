/** Small replies that are made in many places: JSON, text, and the JSON of an error. */
import type { HeaderLine, RegistryError } from "../errors.ts";
import type { Reply } from "../proxy/exchange.ts";
import { API_VERSION, NEVER_KEPT } from "../proxy/headers.ts";

export interface ReplyOptions {
  readonly headers?: readonly HeaderLine[];
}

/** Docker reads errors only from this exact type (protocol R32). */
const JSON_TYPE = "application/json";

export function jsonReply(status: number, value: unknown, options: ReplyOptions = {}): Reply {
  return sized(status, JSON.stringify(value), JSON_TYPE, options);
}

export function textReply(status: number, text: string, options: ReplyOptions = {}): Reply {
  return sized(status, text, "text/plain; charset=utf-8", options);
}

export function errorReply(error: RegistryError): Reply {
  return jsonReply(error.status, error.toJSON(), { headers: [...error.headers, NEVER_KEPT, API_VERSION] });
}

function sized(status: number, body: string, type: string, { headers = [] }: ReplyOptions): Reply {
  return {
    status,
    headers: [["Content-Type", type], ["Content-Length", String(Buffer.byteLength(body))], ...headers],
    body,
  };
}
