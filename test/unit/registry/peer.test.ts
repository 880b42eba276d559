import { expect, test } from "bun:test";
import { isLoopbackPeer, peerAddress } from "../../../src/registry/peer.ts";

test.each([
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["::FFFF:192.0.2.7", "192.0.2.7"],
  ["192.0.2.7", "192.0.2.7"],
  ["::1", "::1"],
  ["2001:DB8::7", "2001:db8::7"],
  ["", "unknown"],
  [undefined, "unknown"],
])("peerAddress() of %p is %s", (remoteAddress, peer) => expect(peerAddress(remoteAddress)).toBe(peer));

test.each([
  ["127.0.0.1", true],
  ["127.255.0.9", true],
  ["::1", true],
  ["unix", true],
  ["unknown", false],
  ["192.0.2.7", false],
  ["127.evil.test", false],
  ["::1.evil.test", false],
  ["1127.0.0.1", false],
  ["::", false],
])("isLoopbackPeer() of %s is %p", (peer, isLoopback) => expect(isLoopbackPeer(peer)).toBe(isLoopback));
