/** An IP address as protocols carry it: 4 or 16 bytes. */
import ipaddr from "ipaddr.js";

/** @param address without brackets: `"127.0.0.1"`, `"::1"` */
export function addressBytes(address: string): Buffer {
  return Buffer.from(ipaddr.parse(address).toByteArray());
}
