# docker build -t layover . && docker run -p 5000:5000 -v layover:/var/lib/layover layover
# The first stage needs the network for npm; the second holds the binary, glibc and nothing that could be run besides.
FROM node:22-bookworm AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
# .git comes along so that the binary knows its commit.
COPY . .
RUN npm run build && mkdir -p /root-of-image/var/lib/layover

# The binary needs libc, libm, libpthread and libdl; static images have none.
FROM gcr.io/distroless/base-debian12:nonroot
COPY --from=build --chown=65532:65532 /root-of-image/var/lib/layover /var/lib/layover
COPY --from=build /src/dist/layover /layover
# The key that seals tokens: keep it, or clients log in again after each start. The folder belongs to the user below.
ENV LAYOVER_STATE_DIR=/var/lib/layover
VOLUME /var/lib/layover
USER 65532:65532
EXPOSE 5000
# No HEALTHCHECK: there is no program here to ask with. Ask GET /healthz (alive) and /readyz (serving) from outside.
# SIGTERM drains for up to 30 s, longer than docker stop waits: docker stop --time 40.
ENTRYPOINT ["/layover"]
