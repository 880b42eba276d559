/** Where content comes from: an upstream that is asked for a range of it, as often as need be. */

/** What an upstream gave. */
export interface SourceBody {
  readonly body: ReadableStream<Uint8Array>;
  /** Where the body begins: the offset that was asked for, or less (0) from an upstream that cannot begin there (protocol R272). */
  readonly offset: number;
  /** Length of the whole content as the upstream says it, undefined if it does not. */
  readonly totalBytes: number | undefined;
  /** Who gave it, as one name for all it gives; undefined for who does not take ranges. */
  readonly host?: string | undefined;
  readonly refuse?: ((fault: "digest") => void) | undefined; // for whoever finds the whole wrong
}

/** Which bytes are wanted: inclusive positions. From 0 without a last it is the whole, and no range is asked for. */
export interface WantedBytes {
  readonly first: number;
  readonly last: number | undefined;
  /** One of several connections for one content: not worth waiting for, and refused rather than queued. */
  readonly isExtra: boolean;
  /** How often it broke off here in a row, with hardly a byte between: who gave it then may not be the one to ask first. */
  readonly breaks: number;
}

/**
 * Asks the upstream for these bytes. Called again to go on after a break, for parts that are fetched side by side, and by
 * followers of a fill whose store failed; so it may run several times at once, and later than the request that brought it.
 * The signal is aborted when the body is not wanted any more.
 * @throws whatever the client shall be told; RegistryErrors below 500 but 429 are final, other errors are tried again in mid-content
 */
export type ContentSource = (wanted: WantedBytes, signal: AbortSignal) => Promise<SourceBody>;
