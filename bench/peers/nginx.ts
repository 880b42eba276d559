/**
 * nginx as people put it before a registry: proxy_cache on the same file system as Layover's cache, one request upstream for
 * all who wait, sendfile, a worker per core, an access line per request with the facts that Layover's has. A lock that
 * waits five seconds, the default, would let the others through to a slow upstream: it waits as long as it takes.
 */
export interface NginxOptions {
  /** Its own, existing: cache, log and pid file. */
  readonly dir: string;
  readonly port: number;
  readonly tlsPort: number;
  readonly upstream: string;
  readonly certFile: string;
  readonly keyFile: string;
}

export function nginxConfigOf({ dir, port, tlsPort, upstream, certFile, keyFile }: NginxOptions): string {
  return `
worker_processes auto;
worker_rlimit_nofile 65536;
daemon off;
pid ${dir}/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
  log_format line escape=json '{"time":"$time_iso8601","id":"$request_id","client":"$remote_addr","method":"$request_method","host":"$host","uri":"$uri","status":$status,"bytes":$body_bytes_sent,"s":$request_time,"cache":"$upstream_cache_status","agent":"$http_user_agent"}';
  access_log ${dir}/access.log line;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  client_body_temp_path ${dir}/body;
  proxy_temp_path ${dir}/proxy;
  fastcgi_temp_path ${dir}/fastcgi;
  uwsgi_temp_path ${dir}/uwsgi;
  scgi_temp_path ${dir}/scgi;
  proxy_cache_path ${dir}/cache levels=1:2 keys_zone=registry:64m max_size=32g inactive=60d use_temp_path=off;
  ssl_certificate ${certFile};
  ssl_certificate_key ${keyFile};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  upstream registry {
    server ${upstream.replace("http://", "")};
    keepalive 32;
  }
  server {
    listen 127.0.0.1:${port} reuseport;
    listen 127.0.0.1:${tlsPort} ssl reuseport;
    location = /healthz { access_log off; return 200 "ok"; }
    location /v2/ {
      proxy_pass http://registry;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache registry;
      proxy_cache_key $uri;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 1h;
      proxy_cache_lock_age 1h;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
      proxy_cache_valid 200 60d;
      add_header X-Cache $upstream_cache_status;
    }
    location ~ ^/v2/.*/manifests/[^:]+$ {
      proxy_pass http://registry;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache registry;
      proxy_cache_key $uri;
      proxy_cache_lock on;
      proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
      proxy_cache_valid 200 10m;
      add_header X-Cache $upstream_cache_status;
    }
  }
}
`;
}
