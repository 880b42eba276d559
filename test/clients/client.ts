/** What the suite asks of each real client, and how it is told about Layover. */

export interface Client {
  readonly name: string;
  /** Programs it needs. */
  readonly programs: readonly string[];
  /** Debian has it; otherwise `tools.sh` builds it where there is Go. */
  readonly isInDebian: boolean;
  /** Ways of using Layover that it knows besides a plain name (protocol R190). */
  readonly mirrorForms: readonly MirrorForm[];
  /** Registries whose mirror it can be told of; dockerd mirrors docker.io only (protocol R150). */
  readonly mirrorsOnly?: string;
  /** Tells it how to reach registries from now on. Starts what it needs. */
  configure(setup: Setup): Promise<void>;
  /** Pulls from a cold store; answers the digest it ended with. @throws Error with the client's complaint */
  pull(reference: string, credentials?: Credentials): Promise<string>;
  /**
   * Pulls an image and pushes it under another name, with all platforms where it can; answers the digest that it pushed.
   * @throws Error with the client's complaint
   */
  push?(reference: string, target: string, credentials?: Credentials): Promise<string>;
  stop(): Promise<void>;
}

/**
 * - `root`: `http://layover:5000`, the client adds `ns` or means docker.io
 * - `after`: `/v2/<registry>/<name>`
 * - `before`: `/<registry>/v2/<name>`
 * - `default`: `root` for every registry at once (containerd's `_default`)
 */
export type MirrorForm = "root" | "after" | "before" | "default";

export interface Mirror {
  /** As it stands in image names: `"docker.io"`. */
  registry: string;
  form: MirrorForm;
  /** `"http://layover.test:5000"` */
  url: string;
}

export interface Setup {
  /** Hosts that speak plain http, as they stand in image names: `"layover.test:5000"`. */
  plainHosts: readonly string[];
  mirror?: Mirror;
}

export interface Credentials {
  username: string;
  password: string;
}

/** Where a client keeps its things, and which authority it trusts. */
export interface ClientPlace {
  dir: string;
  caFile: string;
}

/** A mirror's place in a URL path: `"/quay.io"`, or nothing for the root. */
export function mirrorPath(mirror: Mirror): string {
  return mirror.form === "after" || mirror.form === "before" ? `/${mirror.registry}` : "";
}

/** `"host:5000/name:tag"` → `"host:5000"`. */
export function hostOf(reference: string): string {
  return reference.split("/")[0] ?? "";
}
