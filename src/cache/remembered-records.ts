/**
 * Records that remember what was read: a pull of what is kept asks for a tag, a link and two grants, and each time costs
 * SQLite two locks of the file. What decides who sees what must never be older than a moment:
 *
 *   a write of this process          nothing that was read before it is answered again
 *   a write of another process       the same, from the next look at the file on: every quarter of a second
 *   a file that rests, is replaced   as a write of this process
 *
 * So a withdrawal (a grant dropped, a link or a tag taken out) hides at once here, and within that time elsewhere.
 */
import type { Grant, Place, Records, TagRecord } from "./records.ts";

export interface RememberedRecordsOptions {
  /** Answers of each kind; 4096. */
  readonly maxAnswers?: number;
}

export interface RememberedRecordsDependencies {
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

/** What is pulled within a quarter of a second; some hundred bytes each, and four kinds of them. */
const MAX_ANSWERS = 4096;
const LOOK_EVERY_MS = 250;

export function withRememberedReads(
  records: Records,
  { maxAnswers = MAX_ANSWERS }: RememberedRecordsOptions,
  { now }: RememberedRecordsDependencies,
): Records {
  let lookedMs = Number.NEGATIVE_INFINITY;
  let seen = records.changes();
  let seenElsewhere: number | undefined;
  let state = 0;
  const links = createMemory<boolean>();
  const mediaTypes = createMemory<string | undefined>();
  const tags = createMemory<TagRecord | undefined>();
  const grants = createMemory<Grant | undefined>();

  /** Another number once anything may be answered otherwise. */
  function stateNow(): number {
    const atMs = now();
    if (atMs - lookedMs >= LOOK_EVERY_MS) {
      lookedMs = atMs;
      const elsewhere = records.foreignChanges();
      if (elsewhere === undefined || elsewhere !== seenElsewhere) state += 1;
      seenElsewhere = elsewhere;
    }
    const changes = records.changes();
    if (changes !== seen) state += 1;
    seen = changes;
    return state;
  }

  function createMemory<Answer>(): (key: string, ask: () => Answer) => Answer {
    const answers = new Map<string, { readonly answer: Answer }>();
    let answeredIn = state;
    return function recall(key, ask) {
      const current = stateNow();
      if (current !== answeredIn) answers.clear();
      answeredIn = current;
      const known = answers.get(key);
      if (known !== undefined) return known.answer;
      // No order of use is kept, which would cost each hit: when there are too many, each is read once more.
      if (answers.size >= maxAnswers) answers.clear();
      // A read that fails is answered as absent, and is a change: its answer goes before the next one.
      const answer = ask();
      answers.set(key, { answer });
      return answer;
    };
  }

  return {
    ...records,
    isLinked: (place, digest) => links(keyOf(place, digest), () => records.isLinked(place, digest)),
    mediaType: (place, digest) => mediaTypes(keyOf(place, digest), () => records.mediaType(place, digest)),
    tag: (place, tag, accept) => tags(keyOf(place, `${tag} ${accept}`), () => records.tag(place, tag, accept)),
    grant: (place, holder) => grants(keyOf(place, holder), () => records.grant(place, holder)),
  };
}

/** Neither a registry's URL, nor a repository, nor a tag has a space in it; what comes last may. */
function keyOf({ registry, repository }: Place, what: string): string {
  return `${registry} ${repository} ${what}`;
}
