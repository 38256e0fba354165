# bootjackd in a container: one static program, network boot programs, certificates, and nothing else.
#
#   docker build -t bootjackd .
#   docker run --network host --cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add NET_RAW \
#       -v ./bootjackd.toml:/etc/bootjack/bootjackd.toml:ro -v bootjack:/var/lib/bootjack bootjackd
#
# `make image` packs the same without a container engine (host-cli/src/container).

# Both on Debian 12, whose package ipxe is taken; any image with Rust and apt does.
ARG RUST_IMAGE=docker.io/library/rust:1-bookworm

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
# `dev` builds faster, and what it builds is slower.
ARG CARGO_PROFILE=release
RUN apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends \
        binutils ca-certificates debian-archive-keyring gcc libc6-dev libcap2-bin make pkg-config xz-utils zstd
WORKDIR /src
COPY . .
RUN set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
        amd64) arch=x86_64 ;; \
        arm64) arch=aarch64 ;; \
        *) echo "Dockerfile: wanted TARGETARCH amd64 or arm64, got '$TARGETARCH'" >&2; exit 1 ;; \
    esac; \
    # From one architecture to the other: emulating a compiler takes an hour. deploy/static.sh finds compilers of its own otherwise.
    if [ "$arch" != "$(uname -m)" ] && command -v rustup && rustup target add "$arch-unknown-linux-gnu"; then \
        apt-get -qq install -y --no-install-recommends \
            "gcc-$(echo "$arch" | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
    fi; \
    CARGO_PROFILE=$CARGO_PROFILE deploy/static.sh "$arch"; \
    case $CARGO_PROFILE in dev) built=debug ;; *) built=$CARGO_PROFILE ;; esac; \
    install -D -m 0755 "target/$arch-unknown-linux-gnu/$built/bootjackd" /image/bootjackd; \
    # Whoever runs it may bind low ports and send frames, and nothing else.
    setcap cap_net_bind_service,cap_net_raw=ep /image/bootjackd
# Programs for machines of both architectures, whatever the server's own is.
RUN for arch in x86_64 aarch64; do ipxe/programs.sh "/programs/$arch" "$arch"; done \
    && mkdir -p /image/usr/lib/ipxe /image/etc/bootjack /image/etc/ssl/certs /image/tmp /empty \
    && cp /programs/*/*.efi /programs/*/*.kpxe /image/usr/lib/ipxe/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'bootjack:x:65532:65532::/var/lib/bootjack:/sbin/nologin' >/image/etc/passwd \
    && echo 'bootjack:x:65532:' >/image/etc/group \
    && chmod 1777 /image/tmp

FROM scratch
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /empty/ /var/lib/bootjack/
COPY --from=build --chown=65532:65532 /empty/ /run/bootjack/
USER 65532:65532
WORKDIR /var/lib/bootjack
VOLUME /var/lib/bootjack
EXPOSE 67/udp 69/udp 80/tcp 4011/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/bootjackd", "health"]
ENTRYPOINT ["/bootjackd"]
CMD ["serve", "--config", "/etc/bootjack/bootjackd.toml"]
