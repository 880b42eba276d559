/** R232–R249, R263 and R274: what is kept, for whom, and what happens when keeping fails. */
import type { Rules } from "./rules.ts";

export const CACHE: Rules = {
  R233: "bytes are kept by digest, what may be shown by repository",
  R238: "one download per digest, followed by all who wait",
  R239: "a download ends well though its clients left",
  R240: "content that is evicted is read to its end",
  R241: "tags are served stale when the registry fails, not when it says no",
  R242: "HEAD and GET of a tag agree",
  R243: "what is absent is asked for again after seconds",
  R244: "content by digest needs no upstream once it is there",
  R245: "a digest is shown only where the registry shows it",
  R247: "private content of the cache is shown to who may read it, asked again when the grant is old",
  R274: "a range of what is not there waits for the whole when near, and never stands for it",
};
