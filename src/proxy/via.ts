/**
 * `Via`, by which a request that went in a circle is known (protocol R147, RFC 9110 section 7.6.3): each request made for a
 * client carries our pseudonym, and one that arrives with it is refused.
 */
import { RegistryError } from "../errors.ts";

/** The value to send: received pseudonyms stay in front, so that a loop over several hops is seen. */
export function viaLine(received: string | null, pseudonym: string): string {
  return received === null ? `1.1 ${pseudonym}` : `${received}, 1.1 ${pseudonym}`;
}

/** A map entry that leads back to us would ask itself without end. @throws RegistryError UNAVAILABLE (508) */
export function refuseLoop(received: string | null, pseudonym: string): void {
  if (received === null || !received.includes(pseudonym)) return;
  throw new RegistryError(
    "UNAVAILABLE",
    "this request came from here: an upstream of the map leads back to this proxy",
    { status: 508 },
  );
}
