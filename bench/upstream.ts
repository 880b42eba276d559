/**
 * The upstream of the measurements, a process of its own: one manifest and one blob from loopback, at the lowest cost there
 * is (the kernel copies the file to the socket), so that what is measured is what stands before it.
 *
 *   bun bench/upstream.ts BLOB_FILE MANIFEST_FILE
 */
const [blobFile = "", manifestFile = ""] = process.argv.slice(2);
const manifest = await Bun.file(manifestFile).bytes();
const manifestDigest = `sha256:${new Bun.CryptoHasher("sha256").update(manifest).digest("hex")}`;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  idleTimeout: 0,
  development: false,
  fetch(request) {
    if (request.url.includes("/blobs/")) {
      // Bun would make a Content-Disposition of the file's name.
      return new Response(Bun.file(blobFile), {
        headers: { "content-type": "application/octet-stream", "content-disposition": "inline" },
      });
    }
    return new Response(manifest, {
      headers: {
        "content-type": "application/vnd.oci.image.manifest.v1+json",
        "docker-content-digest": manifestDigest,
      },
    });
  },
});
console.log(JSON.stringify({ msg: "listening", address: server.url.origin }));

export {};
