/**
 * A listener takes connections and hands them to the HTTP server. Without a certificate the HTTP server listens itself,
 * at twice the rate for small answers. With one, the first bytes tell TLS from plain HTTP on one port:
 *
 *   accept ──▶ sniff ──0x16──▶ TLS handshake ──secure──▶ http
 *                    ──"CONNECT "──▶ http, which refuses it
 *                    ──else──▶ http: all of it for loopback peers, the health paths for others
 *
 * Every TLSSocket sits on a net.Socket of our own: over the socket of http's `connect` event it has no backpressure.
 */
import type { X509Certificate } from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import type { Server as NodeHttpServer } from "node:http";
import type { Log } from "../log.ts";
import { isLoopbackPeer, peerAddress } from "../registry/peer.ts";
import { certificateUserOf } from "./client-certificate.ts";
import { listenOn } from "./listen.ts";
import type { BoundAddress, ListenSpec } from "./listen.ts";
import { SNIFFED_BYTES, speechOf } from "./sniff.ts";
import type { Speech } from "./sniff.ts";

export interface ListenerOptions {
  /** From the connection to the end of the TLS handshake, or to the bytes that tell plain HTTP. */
  readonly handshakeTimeoutMs: number;
  /** Connections in that state; more are closed at once, so that silent clients cannot use up memory. */
  readonly maxHandshakes: number;
  /** The setting that named the address, for messages; default `--listen`. */
  readonly flag?: string;
}

/** What a listener needs of the HTTP server. */
export interface ConnectionTaker {
  /** A server of its own for each address: node's servers listen once. */
  newNodeServer(): NodeHttpServer;
  accept(
    socket: net.Socket,
    facts: {
      readonly secure: boolean;
      readonly peer: string;
      readonly httpsOnly?: boolean;
      readonly certificateUser?: () => string | undefined;
    },
  ): void;
}

export interface ListenerDependencies {
  readonly http: ConnectionTaker;
  readonly log: Log;
  /** The certificate in force, asked for each connection; undefined for a listener that speaks plain HTTP. */
  readonly certificate: { current(): ListenerCertificate } | undefined;
  /** Peers that a listener with TLS answers in plain HTTP; default those of loopback. */
  readonly isNear?: (peer: string) => boolean;
}

export interface ListenerCertificate {
  readonly secureContext: tls.SecureContext;
  /** Clients are asked for certificates of these, and served without one all the same. */
  readonly clientAuthorities?: readonly X509Certificate[] | undefined;
}

export interface Listener {
  readonly address: BoundAddress;
  /** True when it speaks TLS. */
  readonly secure: boolean;
  /** Stops accepting and closes connections that have not become HTTP; the others belong to the HTTP server. */
  close(): Promise<void>;
}

/** @throws ListenError when the address cannot be bound */
export async function createListener(
  spec: ListenSpec,
  options: ListenerOptions,
  dependencies: ListenerDependencies,
): Promise<Listener> {
  const { http, log, certificate, isNear = isLoopbackPeer } = dependencies;
  const sniffer =
    certificate === undefined ? undefined : createSniffer(spec, options, { http, log, certificate, isNear });
  const server = sniffer === undefined ? http.newNodeServer() : net.createServer({ noDelay: true }, sniffer.take);
  const bound = await listenOn(server, spec, options.flag ?? "--listen");
  // After binding an accept can fail (no file descriptors left): the next one may succeed, and the process must live.
  server.on("error", (error) => log.error({ reason: error.message }, "accepting a connection failed"));
  return {
    address: bound,
    secure: certificate !== undefined,
    async close() {
      server.close();
      sniffer?.closeAll();
    },
  };
}

interface Sniffer {
  take(socket: net.Socket): void;
  closeAll(): void;
}

interface SnifferDependencies {
  readonly http: ConnectionTaker;
  readonly log: Log;
  readonly certificate: NonNullable<ListenerDependencies["certificate"]>;
  readonly isNear: (peer: string) => boolean;
}

function createSniffer(spec: ListenSpec, options: ListenerOptions, dependencies: SnifferDependencies): Sniffer {
  // Bounded by options.maxHandshakes.
  const pending = new Set<net.Socket>();

  function take(socket: net.Socket): void {
    if (pending.size >= options.maxHandshakes) return void socket.destroy();
    const peer = spec.kind === "unix" ? "unix" : peerAddress(socket.remoteAddress);
    pending.add(socket);
    const timer = setTimeout(() => socket.destroy(), options.handshakeTimeoutMs);
    const settle = (): void => {
      clearTimeout(timer);
      pending.delete(socket);
    };
    // A reset before the first request: `close` follows and cleans up.
    socket.on("error", () => undefined);
    socket.once("close", settle);
    sniff(socket, (speech) => {
      if (speech === "tls") return void terminate(socket, peer, settle);
      settle();
      // CONNECT goes the way of plain HTTP, where it is refused, until interception claims it here.
      dependencies.http.accept(socket, {
        secure: false,
        peer,
        ...(dependencies.isNear(peer) ? {} : { httpsOnly: true }),
      });
      socket.resume();
    });
  }

  function terminate(socket: net.Socket, peer: string, settle: () => void): void {
    const { certificate } = dependencies;
    const { secureContext, clientAuthorities } = certificate.current();
    const secured = new tls.TLSSocket(socket, {
      isServer: true,
      secureContext,
      ALPNProtocols: ["http/1.1"],
      requestCert: clientAuthorities !== undefined,
      // Who shows none, or a bad one, may have a password, and gets an answer that says what is missing.
      rejectUnauthorized: false,
    });
    secured.on("error", (error: NodeJS.ErrnoException) => {
      // The usual cause is a client that does not trust the certificate: a person who looks for it finds it here.
      if (pending.has(socket))
        dependencies.log.debug({ peer, reason: error.code ?? error.message }, "TLS handshake failed");
      socket.destroy();
    });
    secured.once("secure", () => {
      settle();
      const authorities = () => certificate.current().clientAuthorities;
      const certificateUser =
        clientAuthorities === undefined
          ? undefined
          : certificateUserOf(secured, { verifiedBy: clientAuthorities, authorities, now: Date.now });
      dependencies.http.accept(secured, { secure: true, peer, ...(certificateUser && { certificateUser }) });
    });
  }

  return {
    take,
    closeAll() {
      for (const socket of pending) socket.destroy();
    },
  };
}

/** Calls back once with what the first bytes speak; they are put back, and the socket is paused. */
function sniff(socket: net.Socket, found: (speech: Speech) => void): void {
  let bytes: Buffer = Buffer.alloc(0);
  function look(chunk: Buffer): void {
    bytes = bytes.byteLength === 0 ? chunk : Buffer.concat([bytes, chunk]);
    const speech = speechOf(bytes.subarray(0, SNIFFED_BYTES));
    if (speech === undefined) return;
    socket.off("data", look);
    socket.pause();
    socket.unshift(bytes);
    found(speech);
  }
  socket.on("data", look);
}
