/** T1–T30: what broke elsewhere, as far as it holds without a cache. */
import type { Rules } from "./rules.ts";

export const LESSONS: Rules = {
  T4: "an upstream that is silent before its first byte: a clean 503 in time",
  T8: "429 stays 429 with Retry-After, never 404",
  T9: "a token server in trouble is no refusal of credentials",
  T11: "one repository name on two registries is two repositories",
  T12: "a truncated body is never a complete one",
  T13: "wrong bytes and pages with 200 are never passed on whole",
  T14: "private images stay private after somebody pulled them",
  T15: "images of several platforms keep their digests",
  T16: "HEAD fetches no body",
  T18: "addresses that are nobody's business, in every spelling: refused with no dial",
  T21: "ranges of something that is not kept",
  T22: "memory is flat whatever the size",
  T23: "Layover behind Layover works, before itself it refuses",
  T24: "an expired signed URL: the registry is asked again, without Authorization at the storage",
  T25: "a tag that moves is seen",
  T26: "a hostile realm gets no credentials",
  T27: "map and certificate change under load, and bad ones change nothing",
  T28: "dead readers hold nothing",
  T29: "hostile requests are refused or harmless, and nothing is said back",
  T30: "two users, two tokens, never each other's",
};
