/** What `layover check` says of client access: who may use the proxy, and names in the rules that mean nobody and nothing. */
import { X509Certificate } from "node:crypto";
import { unknownNames } from "../config/access-rules.ts";
import { readAccess } from "../config/access-source.ts";
import { ConfigError, problemLine } from "../config/problem.ts";
import { type Settings, isGuarded } from "../config/settings.ts";
import type { RegistryMap } from "../registry/registry.ts";
import type { Finding } from "./finding.ts";

export interface CheckAccessDependencies {
  readonly map: RegistryMap;
  readFile(path: string): Promise<string>;
}

const SUBJECT = "client access";

export async function checkAccess(settings: Settings, dependencies: CheckAccessDependencies): Promise<Finding[]> {
  const { access, tls } = settings;
  if (!isGuarded(access)) {
    const text = "everybody who reaches this address may use it; --htpasswd or --allow-from say who";
    return [{ verdict: "ok", subject: SUBJECT, text }];
  }
  const findings = await checkLists(settings, dependencies);
  if (tls?.clientCaFile !== undefined) findings.push(await checkAuthorities(tls.clientCaFile, dependencies));
  return findings;
}

async function checkLists({ access }: Settings, { map, readFile }: CheckAccessDependencies): Promise<Finding[]> {
  try {
    const { hashes, rules } = await readAccess(access, readFile);
    const counts = [
      ...(hashes === undefined ? [] : [counted(hashes.size, "user")]),
      ...(rules === undefined ? [] : [counted(rules.length, "rule")]),
      ...(access.allowFrom.length === 0 ? [] : [`no login from ${access.allowFrom.join(", ")}`]),
      ...(access.hasCertificates ? ["client certificates"] : []),
    ];
    const users = access.hasCertificates ? undefined : (hashes?.keys() ?? []);
    return [
      { verdict: "ok", subject: SUBJECT, text: counts.join(", ") },
      ...unknownNames(rules ?? [], { map, users }).map((text): Finding => ({
        verdict: "warn",
        subject: SUBJECT,
        text: `access rules: ${text}`,
      })),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map((problem) => ({ verdict: "fail", subject: SUBJECT, text: problemLine(problem) }));
  }
}

async function checkAuthorities(file: string, { readFile }: CheckAccessDependencies): Promise<Finding> {
  try {
    const { validTo, subject } = new X509Certificate(await readFile(file));
    const text = `certificates of ${subject.replaceAll("\n", ", ")}, until ${new Date(validTo).toISOString().slice(0, 10)}`;
    return { verdict: "ok", subject: SUBJECT, text };
  } catch (error) {
    // Unreadable or no PEM: a finding like the others.
    const reason = error instanceof Error ? error.message : String(error);
    return { verdict: "fail", subject: SUBJECT, text: `${file}: ${reason}; check --tls-client-ca` };
  }
}

function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
