/**
 * One GET to somebody outside, for commands: the map's URL, an upstream's `/v2/`. Over the same path as pulls take, so
 * that proxies, address rules, certificates and deadlines are the same.
 */
import type { MapResponse } from "../config/map-fetch.ts";
import type { UpstreamSettings } from "../config/settings.ts";
import { type Registry, createPlainRegistry } from "../registry/registry.ts";
import { createDial } from "../upstream/dial.ts";
import { NO_METER } from "../upstream/meter.ts";
import { createHttp } from "../upstream/http.ts";
import { createOutlets } from "../upstream/outlet.ts";

export interface Asker {
  /** @throws UpstreamError; the signal's reason */
  ask(url: URL, registry: Registry, signal: AbortSignal): Promise<MapResponse>;
  close(): Promise<void>;
}

export function createAsker(settings: UpstreamSettings, version: string): Asker {
  const dial = createDial(settings);
  const outlets = createOutlets(settings);
  const http = createHttp({ ...settings, version }, { dial, outlets, meter: NO_METER });
  return {
    ask(url, registry, signal) {
      const deadlineMs = performance.now() + settings.headerTimeoutMs;
      return http.exchange({
        url,
        method: "GET",
        headers: [],
        registry,
        rule: { kind: "configured" },
        signal,
        deadlineMs,
      });
    },
    close: outlets.close,
  };
}

/** The registry that stands for the map's own server: no credentials, usual certificates, the general proxy. */
export function mapServer({ origin }: URL): Registry {
  return createPlainRegistry("registry-map", [{ origin, basePath: "", namePrefix: "" }]);
}
