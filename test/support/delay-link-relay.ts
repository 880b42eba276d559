/**
 * The program in the middle of a delay link (delay-link.ts): carries packets between two TUN devices, late, at a rate and not
 * all of them. A process of its own, because it waits in the kernel and does nothing else.
 *
 *     bun delay-link-relay.ts    prints {"devices": ["…", "…"]}; reads one JSON object of settings a line, answers each with
 *                                its counts so far; ends with its standard input, and the devices with it
 */
import { dlopen, ptr } from "bun:ffi";
import { readSync, writeSync } from "node:fs";

export interface LinkSettings {
  /** One way, milliseconds. */
  readonly delayMs: number;
  /** At most so much more. Packets may overtake each other, as they do outside. */
  readonly jitterMs: number;
  /** Part of the packets that get lost, 0 to 1. */
  readonly loss: number;
  /** Megabit a second in each direction; 0: as fast as it goes. */
  readonly rateMbit: number;
  /** 1: nothing passes. */
  readonly down: number;
}

export interface LinkCounts {
  readonly packets: number;
  readonly dropped: number;
  /** From the second device to the first, headers of IP and TCP included. */
  readonly bytesBack: number;
}

export const PERFECT: LinkSettings = { delayMs: 0, jitterMs: 0, loss: 0, rateMbit: 0, down: 0 };

const libc = dlopen("libc.so.6", {
  open: { args: ["ptr", "i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: "i64" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64" },
}).symbols;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const TUNSETIFF = 0x400454ca;
const IFF_TUN_WITHOUT_HEAD = 0x0001 | 0x1000;
const POLLIN = 1;
const POLLHUP = 16;
const STDIN = 0;
/** Nothing on a link is larger. */
const MAX_PACKET = 65_535;
/** Packets that one device gives before the other has its turn. */
const BURST = 64;
/** What would wait longer for its turn is dropped, as a router's queue does. */
const MAX_QUEUE_MS = 300;
/** At any rate below 2 Gbit/s the queue holds less. */
const MAX_QUEUED = 50_000;

interface Packet {
  readonly dueAtMs: number;
  readonly to: number;
  readonly bytes: Uint8Array;
}

export interface Tun {
  readonly fd: number;
  /** `"lay0"` */
  readonly name: string;
}

/** @throws Error without root */
export function openTun(): Tun {
  const fd = libc.open(ptr(Buffer.from("/dev/net/tun\0")), O_RDWR | O_NONBLOCK);
  const request = Buffer.alloc(40);
  request.write("laylink%d");
  request.writeUInt16LE(IFF_TUN_WITHOUT_HEAD, 16);
  if (fd < 0 || libc.ioctl(fd, TUNSETIFF, ptr(request)) < 0)
    throw new Error("expected to be allowed to make a TUN device, which needs root on Linux");
  return { fd, name: request.toString("latin1", 0, 16).replace(/\0.*$/s, "") };
}

/** Until standard input ends. */
function carry([first, second]: readonly [Tun, Tun]): void {
  const packet = new Uint8Array(MAX_PACKET);
  const polled = Buffer.alloc(24);
  for (const [index, fd] of [STDIN, first.fd, second.fd].entries()) {
    polled.writeInt32LE(fd, index * 8);
    polled.writeInt16LE(POLLIN, index * 8 + 4);
  }
  const queue = createQueue();
  const freeAtMs = new Map([
    [first.fd, 0],
    [second.fd, 0],
  ]);
  let settings = PERFECT;
  let [packets, dropped, bytesBack] = [0, 0, 0];

  function take(from: Tun, to: Tun): void {
    for (let taken = 0; taken < BURST; taken++) {
      const length = Number(libc.read(from.fd, ptr(packet), MAX_PACKET));
      if (length <= 0) return;
      packets += 1;
      if (from === second) bytesBack += length;
      const leavesAtMs = departure(from, length);
      const isLost = settings.down > 0 || Math.random() < settings.loss || leavesAtMs === undefined;
      if (isLost || queue.length() >= MAX_QUEUED) dropped += 1;
      else queue.add({ dueAtMs: leavesAtMs + late(), to: to.fd, bytes: packet.slice(0, length) });
    }
  }

  /** When the packet has gone over the line at its rate; undefined when it would wait too long for it. */
  function departure(from: Tun, bytes: number): number | undefined {
    const now = performance.now();
    if (settings.rateMbit === 0) return now;
    const begins = Math.max(now, freeAtMs.get(from.fd) ?? 0);
    if (begins - now > MAX_QUEUE_MS) return undefined;
    const ends = begins + (bytes * 8) / (settings.rateMbit * 1000);
    freeAtMs.set(from.fd, ends);
    return ends;
  }

  function late(): number {
    return settings.delayMs + Math.random() * settings.jitterMs;
  }

  /** False at the end of the input. */
  function obey(): boolean {
    const text = Buffer.alloc(4096);
    const length = readSync(STDIN, text);
    if (length === 0) return false;
    for (const line of text.toString("utf8", 0, length).split("\n").filter(Boolean)) {
      settings = { ...settings, ...(JSON.parse(line) as Partial<LinkSettings>) };
      say({ packets, dropped, bytesBack } satisfies LinkCounts);
    }
    return true;
  }

  for (;;) {
    const now = performance.now();
    for (let due = queue.due(now); due !== undefined; due = queue.due(now)) {
      libc.write(due.to, ptr(due.bytes), due.bytes.length); // a device that is not up yet takes nothing
    }
    libc.poll(ptr(polled), 3, queue.waitMs(performance.now()));
    const ready = (index: number): number => polled.readInt16LE(index * 8 + 6);
    if ((ready(0) & (POLLIN | POLLHUP)) !== 0 && !obey()) return;
    if (ready(1) !== 0) take(first, second);
    if (ready(2) !== 0) take(second, first);
  }
}

/** Packets by when they are due: a binary heap. */
export function createQueue() {
  const heap: Packet[] = [];
  const dueAt = (index: number): number => heap[index]?.dueAtMs ?? Infinity;

  function swap(one: number, other: number): void {
    const [a, b] = [heap[one], heap[other]];
    if (a === undefined || b === undefined) return;
    heap[one] = b;
    heap[other] = a;
  }

  function sink(): void {
    for (let at = 0; ;) {
      const child = dueAt(2 * at + 1) <= dueAt(2 * at + 2) ? 2 * at + 1 : 2 * at + 2;
      if (dueAt(child) >= dueAt(at)) return;
      swap(at, child);
      at = child;
    }
  }

  return {
    length: () => heap.length,
    add(packet: Packet): void {
      heap.push(packet);
      for (let at = heap.length - 1; at > 0;) {
        const parent = (at - 1) >> 1;
        if (dueAt(parent) <= dueAt(at)) return;
        swap(at, parent);
        at = parent;
      }
    },
    /** The next packet whose time has come. */
    due(now: number): Packet | undefined {
      if (dueAt(0) > now) return undefined;
      const top = heap[0];
      const last = heap.pop();
      if (heap.length > 0 && last !== undefined) {
        heap[0] = last;
        sink();
      }
      return top;
    },
    /** Whole milliseconds until then, 1000 at most; poll cannot wait for less. */
    waitMs: (now: number): number => Math.ceil(Math.max(0, Math.min(1000, dueAt(0) - now))),
  };
}

function say(value: unknown): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

if (import.meta.main) {
  const tuns = [openTun(), openTun()] as const;
  say({ devices: tuns.map(({ name }) => name) });
  carry(tuns);
}
