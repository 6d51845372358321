# shellcheck shell=bash
# Sourced by the tools that work in a Debian of their own: how one is made and entered.
#
# Everything is mounted in a namespace of its own: mounts and servers are gone when the command ends. That needs root and
# the right to mount.

# The Debian that has this Postgres.
debian_with() {
    case $1 in
        15) say bookworm ;;
        17) say trixie ;;
        18) say forky ;;
        *) skip "no Debian has it" ;;
    esac
}

skip() {
    printf 'Skipped: Postgres %s in a Debian of its own: %s.\n' "$PG" "$1" >&2
    exit 77
}

# Ends with 77 where none can be had; installs mmdebstrap where it is missing.
can_make_debian() {
    local log=$BUILD/log/apt.log
    am_root || skip "making one needs root"
    unshare --mount --pid --fork true 2>/dev/null || skip "this machine does not let a namespace be made"
    # shellcheck disable=SC2016 # expanded inside
    unshare --mount sh -c 'd=$(mktemp -d) && mount -t tmpfs none "$d" && umount "$d" && rmdir "$d"' 2>/dev/null ||
        skip "this machine does not let anything be mounted"
    command -v mmdebstrap >/dev/null && return
    say "mmdebstrap, which makes it, is missing and will be installed with apt-get."
    mkdir -p "${log%/*}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap; } \
        >"$log" 2>&1 </dev/null || skip "mmdebstrap could not be installed (see $log)"
}

remove_debian() { rm -rf --one-file-system "$1"; }

# make_debian SUITE FOLDER PACKAGE...
make_debian() {
    local suite=$1 root=$2 log=$BUILD/log/debian-$1.log names
    shift 2
    names=$(IFS=, && say "$*")
    remove_debian "$root"
    mkdir -p "$root" "${log%/*}"
    # In a namespace of its own: whatever it mounts is gone with it.
    unshare --mount mmdebstrap --mode=root --variant=apt --include="$names" "$suite" "$root" >"$log" 2>&1 </dev/null || {
        remove_debian "$root"
        skip "it could not be made (see $log)"
    }
    say "127.0.0.1 localhost $(hostname)" >"$root/etc/hosts" # sudo asks for it
}

# inside_debian FOLDER [--over|--read OUTSIDE INSIDE]... [NAME=VALUE]... COMMAND...
# --over: a folder of this machine is seen inside; --read: and cannot be written.
inside_debian() {
    # shellcheck disable=SC2016 # expanded inside
    unshare --mount --pid --fork --kill-child bash -euc '
        root=$1
        shift
        mount --make-rprivate /
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        while [ "$1" = --over ] || [ "$1" = --read ]; do
            mkdir -p "$root$3"
            mount --bind "$2" "$root$3"
            [ "$1" = --over ] || mount -o remount,ro,bind "$root$3"
            shift 3
        done
        exec chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' inside "$@"
}
