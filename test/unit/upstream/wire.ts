/** A host that answers raw bytes, for what no registry would send on purpose. */
import {
  createWireServer,
  type WireHandler,
  type WireRequest,
  type WireServer,
  type WireServerOptions,
} from "../../support/wire-server.ts";
import { closeAfter } from "./fixture.ts";

export interface WireHost extends WireServer {
  readonly requests: WireRequest[];
}

/** A server whose handler writes the answer; it is closed after the test. */
export async function wireHost(handler: WireHandler, options: WireServerOptions = {}): Promise<WireHost> {
  const requests: WireRequest[] = [];
  const server = await createWireServer(options, async (request, answer) => {
    requests.push(request);
    await handler(request, answer);
  });
  closeAfter(() => server.close());
  return { ...server, requests };
}

/** Answers each request with these bytes, then keeps or ends the connection. */
export function answering(bytes: string | Uint8Array, how: "keep" | "fin" | "reset" = "keep"): WireHandler {
  return async (_, answer) => {
    await answer.write(bytes);
    answer.finish(how);
  };
}
