/**
 * An upstream's URL taken apart: a base path stands before `/v2` (Artifactory's path method), a name prefix behind it
 * (Harbor, Nexus); both forms are in use (protocol R145). A URL says where, never who: userinfo is refused.
 */
import type { Upstream } from "../registry/registry.ts";
import { shownUrl } from "./kinds.ts";

const BASE_PATH = /^(\/[A-Za-z0-9._~-]+)*$/;
/** Protocol R7. */
const NAME = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;

/**
 * `"https://ghcr.io"`, `"https://art.example/artifactory/api/docker/hub[/v2]"` → base path,
 * `"https://harbor.example/v2/project"` → name prefix `"project/"`.
 * @throws Error that says what was expected and what came, without userinfo and query
 */
export function parseUpstream(text: string): Upstream {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || /\s/.test(text)) {
    throw new Error(`expected an http or https URL, got ${shownUrl(text)}`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new Error(`expected a URL without user and password, got ${shownUrl(text)}; use credentials`);
  }
  if (/[?#]/.test(text)) throw new Error(`expected a URL without a query or fragment, got ${shownUrl(text)}`);
  const [base = "", ...behind] = `${url.pathname.replace(/\/+$/, "")}/`.split("/v2/");
  const basePath = base.replace(/\/$/, "");
  const prefix = behind.join("/v2/").replace(/\/$/, "");
  if (!BASE_PATH.test(basePath)) throw new Error(`expected a plain path before /v2, got ${shownUrl(text)}`);
  if (prefix !== "" && !NAME.test(prefix))
    throw new Error(`expected a repository name behind /v2/, got ${shownUrl(text)}`);
  return { origin: url.origin, basePath, namePrefix: prefix === "" ? "" : `${prefix}/` };
}

/** The URL again, without `/v2` where nothing stands behind it. */
export function formatUpstream(upstream: Upstream): string {
  const behind = upstream.namePrefix === "" ? "" : `/v2/${upstream.namePrefix.slice(0, -1)}`;
  return `${upstream.origin}${upstream.basePath}${behind}`;
}

/** Whether the whole host is this registry's, so that its name may stand for it. */
export function isBare(upstream: Upstream): boolean {
  return upstream.basePath === "" && upstream.namePrefix === "";
}

/** `"ghcr.io"`, `"[::1]:5000"`: host and non-default port. */
export function hostOf(upstream: Upstream): string {
  return new URL(upstream.origin).host;
}
