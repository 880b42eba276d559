/** Debian's docker-registry as a pull-through cache, as its package configures it: descriptors in memory, blobs in files. */
export interface DockerRegistryOptions {
  /** Its own, existing. */
  readonly dir: string;
  readonly port: number;
  readonly upstream: string;
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
}

/** JSON is YAML. */
export function dockerRegistryConfigOf({ dir, port, upstream, tls }: DockerRegistryOptions): string {
  return JSON.stringify({
    version: 0.1,
    // The access line goes to standard output; at info every request would write two lines more.
    log: { level: "warn", accesslog: { disabled: false } },
    storage: { cache: { blobdescriptor: "inmemory" }, filesystem: { rootdirectory: `${dir}/storage` } },
    http: {
      addr: `127.0.0.1:${port}`,
      secret: "of this run",
      ...(tls === undefined ? {} : { tls: { certificate: tls.certFile, key: tls.keyFile } }),
    },
    proxy: { remoteurl: upstream },
  });
}
