# The official Postgres image with the extension in it:
#
#   docker build --build-arg PG=17 -t postgres-codex:17 .
#   docker run -e POSTGRES_PASSWORD=... postgres-codex:17
#
# Then, in a database: CREATE EXTENSION raptorflow_codex; SELECT * FROM codex.migrate();
ARG PG=17

FROM rust:1-bookworm AS rust
RUN rustup component add rustfmt clippy

FROM postgres:${PG}-bookworm AS build
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates make
WORKDIR /src
COPY . .
# Installs the server's headers and what else it needs, and builds the Debian package.
RUN make package PG="$PG_MAJOR"

FROM postgres:${PG}-bookworm
RUN --mount=type=bind,from=build,source=/src/.build/package,target=/package \
    apt-get update && \
    apt-get install -y --no-install-recommends /package/*.deb && \
    rm -rf /var/lib/apt/lists/*
# Every session has the context of a request from its first statement on.
CMD ["postgres", "-c", "session_preload_libraries=raptorflow_codex"]
