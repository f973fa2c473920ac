#!/usr/bin/env bash
# Builds the last stage of the Containerfile from a program that is built already, and runs its root as a container
# would: by the user of the image, with a root that is read-only and a volume, in a network of its own.
#
#   deploy/container_test.sh target/release/rmbd
#
# Needs root, buildah and the tools of util-linux and iproute2. The base of the image is replaced by the libraries of
# this machine, since it has to be fetched. Neither a registry nor a runtime of containers takes part, so that what these do
# (seccomp by the runtime, cgroups, port forwarding) is not tried here; deploy/seccomp.json has a test of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

# In the namespaces: runs the node, asks it, ends it. `run` is a command of the image in its root.
inside() {
    root=$1 user=$2
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t tmpfs -o uid="${user%:*}",gid="${user#*:}",mode=0750 volume "$root/data"
    mount -t proc proc "$root/proc"
    # Every runtime gives a container these.
    mount -t tmpfs -o mode=0755 devices "$root/dev"
    for device in null urandom; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    ip link set lo up
    local words=(env -i "${image_env[@]}" chroot --userspec="$user" "$root" "${entrypoint[@]}")
    run() { "${words[@]}" "$@"; }
    for counted in 3 6; do
        # What the node before has said is no sign of this one.
        rm -f "$work/ready"
        # A command by itself, so that signals reach the node and no shell.
        "${words[@]}" >"$work/ready" 2>"$work/log" &
        local node=$! answer owners
        for _ in $(seq 400); do
            [ -s "$work/ready" ] && break
            kill -0 "$node" 2>/dev/null || break
            sleep 0.05
        done
        grep '^rmbd ready ' "$work/ready" || { cat "$work/log"; exit 1; }
        run add apple apple apple --server 127.0.0.1:8000
        answer=$(run count apple --server 127.0.0.1:8000)
        [ "$answer" = "$counted"$'\t'apple ] || { echo "counted: $answer, not $counted"; exit 1; }
        run status --server 127.0.0.1:8000 | grep '^io '
        owners=$(find "$root/data" -mindepth 1 -printf '%U\n' | sort -u)
        [ "$owners" = "${user%:*}" ] || { echo "the volume's files are of: $owners"; exit 1; }
        kill -TERM "$node"
        wait "$node" || { echo "ended with $?"; cat "$work/log"; exit 1; }
    done
    echo "started twice by $user on a root that is read-only: counted, ended, and counted on"
}

if [ "${1:-}" = --inside ]; then
    # Arrays do not pass the environment: the outer half has written them down.
    image_env=() entrypoint=()
    # shellcheck disable=SC1091
    . "$2/image.sh"
    work=$2
    inside "$3" "$4"
    exit
fi

program=$(realpath "${1:?the program, such as target/release/rmbd}")
work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
storage=(--root "$work/storage" --runroot "$work/run")
clean_up() {
    buildah "${storage[@]}" umount --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

# What stands for the base, and what the first stage would have made.
base=$work/base image=$work/image
mkdir -p "$base"/{dev,etc,proc,tmp} "$image"/usr/bin
chmod 755 "$work" "$base" "$image"
for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    install -D "$(realpath "$library")" "$base$library"
done
echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >"$base/etc/passwd"
install "$program" "$image/usr/bin/rmbd"
install -d -o 65532 -g 65532 -m 0750 "$image/data"
printf 'FROM scratch\nCOPY . /\n' >"$work/Basefile"
buildah "${storage[@]}" bud -q -f "$work/Basefile" -t localhost/rmbd-base "$base" >/dev/null

# The last stage, word for word, but for where its program comes from.
{ echo 'ARG BASE'; sed -n '/^FROM ${BASE}/,$p' deploy/Containerfile | sed 's|^COPY --from=build /image/ /|COPY . /|'; } \
    >"$work/Laststage"
grep -q '^COPY . /$' "$work/Laststage"
buildah "${storage[@]}" bud -q -f "$work/Laststage" --build-arg BASE=localhost/rmbd-base --pull-never \
    -t localhost/rmbd "$image" >/dev/null

inspect() { buildah "${storage[@]}" inspect --type image --format "$1" localhost/rmbd; }
user=$(inspect '{{.OCIv1.Config.User}}')
[ "$user" = 65532:65532 ] || { echo "the image's user is $user"; exit 1; }
[ "$(inspect '{{.OCIv1.Config.StopSignal}}')" = SIGTERM ]
for port in 8000/udp 8001/udp 8000/tcp; do
    inspect '{{.OCIv1.Config.ExposedPorts}}' | grep -q "$port"
done
{
    echo "image_env=("
    inspect '{{range .OCIv1.Config.Env}}{{printf "%q\n" .}}{{end}}'
    echo ")"
    echo "entrypoint=("
    inspect '{{range .OCIv1.Config.Entrypoint}}{{printf "%q\n" .}}{{end}}'
    echo ")"
} >"$work/image.sh"
container=$(buildah "${storage[@]}" from --pull-never localhost/rmbd)
root=$(buildah "${storage[@]}" mount "$container")
echo "image: $(du -sh "$root" | cut -f1) with libraries, its program $(stat -Lc %s "$program") bytes"
unshare --mount --net bash "$0" --inside "$work" "$root" "$user"
