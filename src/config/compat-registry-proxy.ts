/**
 * The variables of docker-registry-proxy that are about tags: three tiers of names, each served for a time of its own
 * without asking the registry (compat.md, DRP). They count for every registry, behind the `tags` of the map; the third
 * tier, of all other tags, is `--tag-ttl`. A pattern or time that is not understood switches the tiers off: every tag is
 * then asked for, which costs requests and is never wrong, while a tier that is left out would hand its tags to the next.
 */
import { compileTagPattern } from "../cache/tag-rules.ts";
import type { TagRule } from "../registry/registry.ts";
import { adopt, readNginxTime, readSwitch, textOf, type Draft, type Environment } from "./inherited.ts";
import { MAX_AGE_MS } from "./kinds.ts";
import { formatTime, parseNginxTime, quoted } from "./units.ts";

/** What the image had: Dockerfile of docker-registry-proxy, github.com/rpardini/docker-registry-proxy. */
const TIERS = [
  { tier: "primary", name: "MANIFEST_CACHE_PRIMARY", pattern: "(stable|nightly|production|test)", ttl: "10m" },
  {
    tier: "secondary",
    name: "MANIFEST_CACHE_SECONDARY",
    pattern: String.raw`(.*)(\d|\.)+(.*)(\d|\.)+(.*)(\d|\.)+`,
    ttl: "60d",
  },
] as const;
const DEFAULT_TIME = "MANIFEST_CACHE_DEFAULT_TIME";
const DEFAULT_TTL = "1h";

/** Names that no other of the older tools has: with one of them set, answers carry that tool's header lines. */
const OWN_NAMES =
  /^(ENABLE_MANIFEST_CACHE|MANIFEST_CACHE_\w+|REGISTRIES|AUTH_REGISTRIES(_DELIMITER)?|AUTH_REGISTRY_DELIMITER|CACHE_MAX_SIZE|CACHE_INACTIVE|ALLOW_PUSH|PROXY_REQUEST_BUFFERING|VERIFY_SSL|DISABLE_IPV6|DEBUG_HUB|DEBUG_NGINX|SEND_TIMEOUT|CLIENT_(BODY|HEADER)_TIMEOUT|KEEPALIVE_TIMEOUT|PROXY_(READ|CONNECT|SEND)_TIMEOUT|PROXY_CONNECT_(READ|CONNECT|SEND)_TIMEOUT)$/;

/** Whether this environment was written for docker-registry-proxy. */
export function isForRegistryProxy(env: Environment): boolean {
  return Object.keys(env).some((name) => OWN_NAMES.test(name) && textOf(env, name) !== undefined);
}

/** The first two tiers, as rules; the third becomes `--tag-ttl`. None unless `ENABLE_MANIFEST_CACHE` is on. */
export function readTagTiers(draft: Draft): TagRule[] {
  if (readSwitch(draft, "ENABLE_MANIFEST_CACHE", "tags are served by the tiers of MANIFEST_CACHE_*") !== true)
    return [];
  const problems = draft.warnings.length;
  const rules = TIERS.map((tier) => readTier(draft, tier)).filter((rule) => rule !== undefined);
  const defaultMs = readNginxTime(draft, DEFAULT_TIME, MAX_AGE_MS);
  if (draft.warnings.length > problems) {
    draft.warnings.push(
      "ENABLE_MANIFEST_CACHE is ignored: with a pattern or time that is wrong, every tag is asked for",
    );
    return [];
  }
  const layer = defaultMs === undefined ? "defaults" : "values";
  const from = defaultMs === undefined ? "ENABLE_MANIFEST_CACHE" : DEFAULT_TIME;
  const text = defaultMs === undefined ? DEFAULT_TTL : formatTime(defaultMs);
  adopt(draft, layer, { name: "tagTtl", text, from });
  return rules;
}

/** A tier; undefined when it is switched off by an empty pattern, or not understood, which is one warning. */
function readTier(draft: Draft, { tier, name, pattern, ttl }: (typeof TIERS)[number]): TagRule | undefined {
  const match = draft.env[`${name}_REGEX`]?.trim() ?? pattern;
  if (match === "") return undefined;
  if (compileTagPattern(match) === undefined) {
    draft.warnings.push(`${name}_REGEX is ignored: expected a regular expression for tags, got ${quoted(match)}`);
    return undefined;
  }
  const ttlMs = readNginxTime(draft, `${name}_TIME`, MAX_AGE_MS) ?? parseNginxTime(ttl);
  return { match, ttlMs, tier };
}
