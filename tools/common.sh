# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is used by the scripts that source this
# Sourced by the other tools: what is where, and how they speak to a person.
#
#   PG=15        the major version of Postgres (15 to 18), from the environment
#   ROOM         the folder of the private server: its programs, its data, its socket
#   SERVER_BIN   the programs of the private server

set -euo pipefail
umask 022 # the user postgres reads and runs what root makes

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$PROJECT/.build
PG=${PG:-15}
PGRX_VERSION=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' "$PROJECT/Cargo.toml")
RUST_NEEDED=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$PROJECT/Cargo.toml")

say() { printf '%s\n' "$*"; }
heading() { printf '\n== %s\n' "$*"; }
die() {
    printf '\nStopped: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

case $PG in
    15 | 16 | 17 | 18) ;;
    13 | 14)
        die "Postgres $PG is out of support, and the extension is not built for it" \
            "It lacks ON DELETE SET NULL (column) and NULLS NOT DISTINCT, which the tables need. Use PG=15, 16, 17 or 18."
        ;;
    *) die "PG=$PG is not a version this extension is built for" "Use PG=15, 16, 17 or 18." ;;
esac

# What a person has set for other work must not change what is built or which server is asked.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE PGSERVICEFILE PGOPTIONS PGSSLMODE PGDATA
unset PGRX_PG_CONFIG_PATH PGRX_PG_CONFIG_AS_ENV
# A server that is started with it puts a backtrace into the DETAIL of every error.
unset RUST_BACKTRACE RUST_LIB_BACKTRACE
USER=$(id -un)
export USER LC_ALL=C.UTF-8
export PGRX_HOME=$BUILD/pgrx-$PG
# Without debug information and without building every dependency a second time for the linker's sake, the
# tests build in half the time and space.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1

# What a production server gets: optimised, and linked as pgrx recommends; in a target folder of its own, so that the
# private server's build for the tests stays as it is.
optimised() {
    unset CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND
    export CARGO_TARGET_DIR=$PROJECT/target/server
}

# Whether this version has to be had from a Debian of its own: 17, where this machine has no package of it.
needs_debian() {
    [ "$PG" = 17 ] && [ ! -x "/usr/lib/postgresql/$PG/bin/pg_config" ] &&
        ! { command -v apt-cache && apt-cache policy "postgresql-server-dev-$PG" | grep 'Candidate: [0-9]'; } >/dev/null
}

am_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as the user that the private server runs as: Postgres refuses root.
as_server_user() {
    if am_root; then
        (cd / && exec runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# Puts cargo-pgrx of this project first. rustup's own cargo puts its folder in front of everything, so the
# toolchain behind it is used directly.
find_tools() {
    local toolchain cargo_home
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    [ -d "$cargo_home/bin" ] && PATH=$PATH:$cargo_home/bin
    if command -v rustup >/dev/null 2>&1 && toolchain=$(cd "$PROJECT" && rustup which cargo 2>/dev/null); then
        PATH=${toolchain%/*}:$PATH
    fi
    PATH=$BUILD/tools/bin:$PATH
    export PATH
}
find_tools

# The folder of the private server. It is in the project's build folder, unless the server could not live there.
choose_room() {
    local base=$BUILD reason="" fallback
    # A Unix socket's path has room for 107 bytes; the longest of ours is that of the tests.
    if [ "$(printf '%s' "$base/pg$PG/test-standby/.s.PGSQL.65535" | wc -c)" -gt 107 ]; then
        reason="its path is too long for a Unix socket"
    elif [[ $base =~ [[:space:]] ]]; then
        reason="its path contains white space, which Postgres's build flags do not survive"
    elif am_root && ! as_server_user test -x "$PROJECT"; then
        reason="the user postgres, which the server runs as when you are root, may not enter it"
    fi
    ROOM=$base/pg$PG
    if [ -n "$reason" ]; then
        fallback=raptorflow_codex-$(printf '%s' "$PROJECT" | cksum | cut -d' ' -f1)-$(id -u)
        for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
            if [ -d "$base" ] && [ "${#base}" -le 40 ] && as_server_user test -x "$base"; then
                ROOM=${base%/}/$fallback/pg$PG
                break
            fi
        done
        # Said by tools/setup, which comes first.
        [ -z "${TELL_ROOM:-}" ] || say "The private server goes to ${ROOM%/*} instead of $BUILD: $reason."
        mkdir -p "${ROOM%/*}"
        # Anybody can make a folder of that name in a shared place.
        if [ -L "${ROOM%/*}" ] || [ ! -O "${ROOM%/*}" ]; then
            die "${ROOM%/*} belongs to somebody else" "Remove it, or set TMPDIR to a folder of your own."
        fi
    fi
    mkdir -p "$ROOM"
    # Debian's layout, or the plain one of a server that was not Debian's.
    SERVER_BIN=$ROOM/server/lib/postgresql/$PG/bin
    [ -d "$SERVER_BIN" ] || [ ! -d "$ROOM/server/bin" ] || SERVER_BIN=$ROOM/server/bin
}

# One at a time: two builds would overwrite each other's library. Held until the calling script ends.
take_turn() {
    [ -z "${HAVE_TURN:-}" ] || return 0
    mkdir -p "$BUILD"
    exec 9>"$BUILD/lock"
    if ! flock -n 9; then
        say "Another make is at work in this folder; waiting for it to end."
        flock 9
    fi
    export HAVE_TURN=1
}
