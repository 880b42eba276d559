/** The part of the composition root that builds client access: users, their files, and who may come in. */
import { readFile } from "node:fs/promises";
import { unknownNames } from "./config/access-rules.ts";
import { createAccessSource } from "./config/access-source.ts";
import { type AccessSettings, type ServerDependencies, isGuarded } from "./config/settings.ts";
import { watchFiles } from "./front/watch.ts";
import { type Gate, createGate } from "./proxy/admission.ts";
import { type LoginLimit, createLoginLimit } from "./proxy/login-limit.ts";
import type { OriginReader } from "./proxy/origin.ts";
import { createPasswords } from "./proxy/passwords.ts";
import type { Sealer } from "./proxy/seal.ts";
import { type Users, createUsers } from "./proxy/users.ts";

/** A file and its neighbour are written one after the other. */
const QUIET_MS = 1_000;

export interface OpenedAccess {
  /** Undefined without client access: everybody may come in. */
  readonly guard: { readonly users: Users; readonly gate: Gate } | undefined;
  /** Failed logins, also those of registries' own accounts. */
  readonly limit: LoginLimit;
  reload(): Promise<void>;
  close(): void;
}

export interface AccessDependencies extends Pick<ServerDependencies, "log" | "maps"> {
  readonly sealer: Sealer;
  readonly originOf: OriginReader;
}

/** @throws ConfigError for a file that cannot be used */
export async function openAccess(settings: AccessSettings, dependencies: AccessDependencies): Promise<OpenedAccess> {
  const { log, maps, sealer, originOf } = dependencies;
  const limit = createLoginLimit(() => performance.now());
  if (!isGuarded(settings)) return { guard: undefined, limit, reload: async () => undefined, close: () => undefined };

  const watch = (files: readonly string[], changed: () => void) =>
    watchFiles(files, { quietMs: QUIET_MS, changed }).close;
  const source = await createAccessSource(settings, { log, readFile: (path) => readFile(path, "utf8"), watch });
  const map = () => maps.current();
  const { hashes, rules } = source.current();
  const known = { map: map(), users: settings.hasCertificates ? undefined : (hashes?.keys() ?? []) };
  for (const line of unknownNames(rules ?? [], known)) log.warn({ file: settings.rulesFile }, `access rules: ${line}`);

  const { fingerprint } = sealer;
  const users = createUsers({
    lists: source.current,
    map,
    passwords: createPasswords({ fingerprint }),
    limit,
    fingerprint,
  });
  const gate = createGate(settings, { users, originOf });
  return { guard: { users, gate }, limit, reload: source.reload, close: source.close };
}
