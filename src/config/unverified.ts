/** Registries whose certificates nobody looks at, and what is said about them: at the start, with each new map, by `check`. */
import type { Log } from "../log.ts";
import type { Registry, RegistryMap } from "../registry/registry.ts";

export const UNVERIFIED =
  "certificates are not verified (tls.insecureSkipVerify, or VERIFY_SSL=false): whoever stands between can read passwords and tokens; name the authority in tls.caFile instead";

/** Those with an upstream that is asked over TLS. */
export function unverifiedIn({ registries }: RegistryMap): readonly Registry[] {
  return registries.filter(
    ({ tls, upstreams }) => tls.insecureSkipVerify && upstreams.some(({ origin }) => origin.startsWith("https:")),
  );
}

/** One line for each. */
export function warnOfUnverified(map: RegistryMap, log: Pick<Log, "warn">): void {
  for (const { key } of unverifiedIn(map)) log.warn({ registry: key }, UNVERIFIED);
}
