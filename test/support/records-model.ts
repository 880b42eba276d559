/**
 * The Records as a page of maps: slow, plain and in memory, for comparing with the real ones. Digests are numbers here, and
 * a manifest names only higher ones: real digests cannot form a circle either.
 */
import { expect } from "bun:test";
import { EVERYBODY, type Place, type Records } from "../../src/cache/records.ts";

/** `"sha256:000…1"`. */
export function digestOf(number: number): string {
  return `sha256:${number.toString(16).padStart(64, "0")}`;
}

export type Operation =
  | { readonly kind: "link"; readonly where: Place; readonly number: number; readonly mediaType: string | undefined }
  | { readonly kind: "unlink" | "unlinkAll"; readonly where: Place; readonly number: number }
  | {
      readonly kind: "setTag";
      readonly where: Place;
      readonly tag: string;
      readonly accept: string;
      readonly number: number;
    }
  | { readonly kind: "touchTag" | "removeTag"; readonly where: Place; readonly tag: string; readonly accept: string }
  | { readonly kind: "used" | "pin" | "unpin" | "adopt" | "forget"; readonly number: number }
  | { readonly kind: "setReferences"; readonly number: number; readonly children: readonly number[] }
  | { readonly kind: "setGrant" | "dropGrant"; readonly where: Place; readonly number: number }
  | { readonly kind: "condemn"; readonly nth: number };

interface Tag {
  readonly number: number;
  readonly firstSeenMs: number;
  checkedMs: number;
}

export interface Model {
  /** Does it here and there; what `condemn` answers is compared at once. */
  apply(operation: Operation, records: Records): void;
  compare(
    records: Records,
    names: { places: readonly Place[]; tags: readonly string[]; accepts: readonly string[] },
  ): void;
}

const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7];

export function createModel(nowMs: () => number): Model {
  const links = new Map<string, Map<number, string | undefined>>();
  const tags = new Map<string, Tag>();
  const grants = new Map<string, string>();
  const neededMs = new Map<number, number>();
  const pinned = new Set<number>();
  const references = new Map<number, Set<number>>();

  const placeKey = ({ registry, repository }: Place) => `${registry} ${repository}`;
  const tagKey = (where: Place, tag: string, accept: string) => `${placeKey(where)} ${tag} ${accept}`;

  function need(number: number, atMs: number): void {
    neededMs.set(number, Math.max(atMs, neededMs.get(number) ?? 0));
  }

  function dropTags(isGone: (key: string, tag: Tag) => boolean): void {
    for (const [key, tag] of tags) if (isGone(key, tag)) tags.delete(key);
  }

  function unlinkAll(number: number): void {
    for (const linked of links.values()) linked.delete(number);
    dropTags((_key, tag) => tag.number === number);
  }

  function forget(number: number): void {
    unlinkAll(number);
    references.delete(number);
    neededMs.delete(number);
  }

  /** Everything that names it, nearest first. */
  function above(number: number): number[] {
    const found = new Set<number>();
    const todo = [number];
    for (const each of todo) {
      for (const [manifest, children] of references) {
        if (children.has(each) && !found.has(manifest)) todo.push(manifest);
        if (children.has(each)) found.add(manifest);
      }
    }
    return [...found];
  }

  function condemn(number: number): number[] {
    const group = [number, ...above(number)];
    const until = Math.max(...group.map((each) => neededMs.get(each) ?? 0));
    const isPinned = group.some((each) => pinned.has(each));
    if (isPinned || until > (neededMs.get(number) ?? 0)) {
      neededMs.set(number, isPinned ? nowMs() : until);
      return [];
    }
    for (const each of group) forget(each);
    return group;
  }

  function apply(operation: Operation, records: Records): void {
    const atMs = nowMs();
    switch (operation.kind) {
      case "link": {
        const { where, number, mediaType } = operation;
        const linked = links.get(placeKey(where)) ?? new Map<number, string | undefined>();
        links.set(placeKey(where), linked.set(number, mediaType ?? linked.get(number)));
        need(number, atMs);
        records.link(where, digestOf(number), { bytes: number, mediaType });
        break;
      }
      case "unlink":
        links.get(placeKey(operation.where))?.delete(operation.number);
        dropTags((key, tag) => key.startsWith(`${placeKey(operation.where)} `) && tag.number === operation.number);
        records.unlink(operation.where, digestOf(operation.number));
        break;
      case "unlinkAll":
        unlinkAll(operation.number);
        records.unlinkAll(digestOf(operation.number));
        break;
      case "setTag": {
        const { where, tag, accept, number } = operation;
        const before = tags.get(tagKey(where, tag, accept));
        const firstSeenMs = before?.number === number ? before.firstSeenMs : atMs;
        tags.set(tagKey(where, tag, accept), { number, firstSeenMs, checkedMs: atMs });
        need(number, atMs);
        records.setTag(where, tag, accept, {
          digest: digestOf(number),
          mediaType: "t",
          bytes: number,
          checkedMs: atMs,
        });
        break;
      }
      case "touchTag": {
        const known = tags.get(tagKey(operation.where, operation.tag, operation.accept));
        if (known !== undefined) known.checkedMs = atMs;
        records.touchTag(operation.where, operation.tag, operation.accept, atMs);
        break;
      }
      case "removeTag":
        dropTags((key) => key.startsWith(`${placeKey(operation.where)} ${operation.tag} `));
        records.removeTag(operation.where, operation.tag);
        break;
      case "used":
        if (neededMs.has(operation.number)) need(operation.number, atMs);
        records.used(digestOf(operation.number), atMs);
        records.flush();
        break;
      case "pin":
        pinned.add(operation.number);
        records.pin(digestOf(operation.number));
        break;
      case "unpin":
        pinned.delete(operation.number);
        records.unpin(digestOf(operation.number));
        break;
      case "adopt":
        if (!neededMs.has(operation.number)) need(operation.number, atMs);
        records.adopt({ digest: digestOf(operation.number), bytes: operation.number }, atMs);
        break;
      case "forget":
        forget(operation.number);
        records.forget(digestOf(operation.number));
        break;
      case "setReferences": {
        const children = operation.children.filter((child) => child > operation.number);
        references.set(operation.number, new Set(children));
        if (!neededMs.has(operation.number)) need(operation.number, atMs);
        records.setReferences(digestOf(operation.number), children.map(digestOf));
        break;
      }
      case "setGrant":
        grants.set(placeKey(operation.where), digestOf(operation.number));
        records.setGrant(operation.where, EVERYBODY, { proof: digestOf(operation.number), checkedMs: atMs });
        break;
      case "dropGrant":
        grants.delete(placeKey(operation.where));
        records.dropGrant(operation.where, EVERYBODY);
        break;
      case "condemn": {
        const candidate = records.evictionCandidates(operation.nth + 1).at(-1);
        if (candidate === undefined) break;
        const expected = condemn(Number.parseInt(candidate.digest.slice(-4), 16));
        expect(records.condemn(candidate)?.toSorted()).toEqual(expected.map(digestOf).toSorted());
        break;
      }
    }
  }

  return {
    apply,
    compare(records, names) {
      for (const where of names.places) {
        const linked = links.get(placeKey(where));
        for (const number of NUMBERS) {
          expect(records.isLinked(where, digestOf(number))).toBe(linked?.has(number) ?? false);
          expect(records.mediaType(where, digestOf(number))).toBe(linked?.get(number));
        }
        expect(records.grant(where, EVERYBODY)?.proof).toBe(grants.get(placeKey(where)));
        for (const tag of names.tags) {
          for (const accept of names.accepts) {
            const known = tags.get(tagKey(where, tag, accept));
            const record = records.tag(where, tag, accept);
            expect(record?.digest).toBe(known && digestOf(known.number));
            expect(record?.firstSeenMs).toBe(known?.firstSeenMs);
            expect(record?.checkedMs).toBe(known?.checkedMs);
          }
        }
      }
      const candidates = records.evictionCandidates(100).map((each) => `${each.neededMs} ${each.digest}`);
      expect(candidates.toSorted()).toEqual(
        [...neededMs].map(([number, ms]) => `${ms} ${digestOf(number)}`).toSorted(),
      );
      for (const number of NUMBERS) expect(records.isPinned(digestOf(number))).toBe(pinned.has(number));
      const withTags = [...tags.keys()].map((key) => key.split(" ").slice(0, 2).join(" "));
      const withLinks = [...links].filter(([, linked]) => linked.size > 0).map(([key]) => key);
      expect(records.totals()).toMatchObject({
        places: new Set([...withTags, ...withLinks, ...grants.keys()]).size,
        tags: tags.size,
        links: [...links.values()].reduce((sum, linked) => sum + linked.size, 0),
        contents: neededMs.size,
        pinned: pinned.size,
      });
    },
  };
}
