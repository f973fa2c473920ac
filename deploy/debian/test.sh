#!/usr/bin/env bash
# Builds the package and plays its life in a root of its own: install, run as the unit says, count, upgrade with the
# counts kept, remove, purge. test.sh FOLDER: FOLDER has `rmbd` and `loadgen`, built. It needs root.
#
# The root has the essential packages of this machine's distribution, apt, and what these depend on, each file of them
# copied: as small as a new installation. systemd does not run in it, so that the test does what the unit says by itself:
# user, folders, credential, variables and command, but neither limits nor walls.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=$(cd "$1" && pwd)
[ "$(id -u)" -eq 0 ] || { echo "this test needs root" >&2; exit 1; }
# Networks, mounts and processes of its own: the ports are free, and nothing stays behind.
if [ -z "${RMBD_DEB_INSIDE:-}" ]; then
    RMBD_DEB_INSIDE=yes exec unshare --net --mount --pid --fork --kill-child --propagation private "$0" "$programs"
fi
ip link set lo up
# Variables of whoever runs this are about other nodes.
for name in "${!RMBD_@}"; do
    [ "$name" = RMBD_MAINTAINER ] || unset "$name"
done

work=$(mktemp -d)
root=$work/root
node=
trap 'kill -9 $node 2>/dev/null || true; umount "$root"/proc "$root"/dev/* 2>/dev/null || true; rm -rf "$work"' EXIT
say() { printf '%6.2f s  %s\n' "$(($(date +%s%N) / 10000000 - begin))e-2" "$*"; }
begin=$(($(date +%s%N) / 10000000))
fail() { echo "FAILED: $*" >&2; [ ! -e "$work/log" ] || cat "$work/log" >&2; exit 1; }
inside() { PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

# Compressed quickly, which a released one is not.
# -- Packages --------------------------------------------------------------------------------------------------------
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$here/../../Cargo.toml")
first=$(RMBD_DEB_COMPRESSION="-Zgzip -z1" "$here/build.sh" "$programs" "$work" "$version")
say "built $(basename "$first"), $(stat -c %s "$first") bytes"
# The same with a later version, and quickly.
dpkg-deb --raw-extract "$first" "$work/later"
sed -i "s/^Version: .*/&+1/" "$work/later/DEBIAN/control"
second=$work/rmbd_later.deb
dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/later" "$second" >/dev/null
lintian --fail-on error --allow-root "$first" || fail "lintian finds errors"
say "lintian has no errors"

# -- A small root ----------------------------------------------------------------------------------------------------
# The essential packages, apt, and what they depend on, of those that are installed.
python3 - "$work/packages" "$work/status" <<'END'
import re, sys
stanzas = {}
for text in open("/var/lib/dpkg/status").read().split("\n\n"):
    field = lambda name, text=text: (re.search(rf"^{name}: (.*)$", text, re.M) or [None, ""])[1]
    if field("Status").endswith(" installed"):
        stanzas[field("Package")] = (text, field)
provided = {}
for name, (_, field) in stanzas.items():
    for virtual in field("Provides").split(","):
        provided.setdefault(virtual.split("(")[0].strip(), name)
wanted = [name for name, (_, field) in stanzas.items() if field("Essential") == "yes"] + ["apt"]
chosen = set()
while wanted:
    name = wanted.pop()
    name = name if name in stanzas else provided.get(name)
    if name is None or name in chosen:
        continue
    chosen.add(name)
    needs = stanzas[name][1]
    for group in (needs("Depends") + "," + needs("Pre-Depends")).split(","):
        wanted += [one.split("(")[0].split(":")[0].strip() for one in group.split("|")]
with open(sys.argv[1], "w") as out:
    for name in sorted(chosen):
        arch = stanzas[name][1]("Architecture")
        out.write(f"{name}:{arch}\n" if stanzas[name][1]("Multi-Arch") == "same" else f"{name}\n")
with open(sys.argv[2], "w") as out:
    out.write("\n\n".join(stanzas[name][0].strip() for name in sorted(chosen)) + "\n\n")
END
mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers} "$root"/{proc,dev,run,tmp}
while read -r package; do
    cp /var/lib/dpkg/info/"$package".* "$root/var/lib/dpkg/info/"
    dpkg -L "$package"
done <"$work/packages" | LC_ALL=C sort -u >"$work/files"
for link in bin sbin lib lib64; do
    mkdir -p "$root/usr/$link"
    [ ! -L "/$link" ] || ln -s "usr/$link" "$root/$link"
done
# Not the machine's documents: nobody reads them here.
grep -v -e '^/usr/share/doc/' -e '^/usr/share/locale/' -e '^/\.$' "$work/files" | sed 's|^/||' >"$work/wanted"
# Files that this machine has lost since are left out.
tar --create --no-recursion --directory=/ --ignore-failed-read --files-from="$work/wanted" 2>/dev/null |
    tar --extract --directory="$root"
cp "$work/status" "$root/var/lib/dpkg/status"
cp /var/lib/dpkg/info/format "$root/var/lib/dpkg/info/" 2>/dev/null || true
printf '%s:/bin/false\n' root:x:0:0::/root _apt:x:42:65534::/nonexistent nobody:x:65534:65534::/nonexistent >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
for name in null zero urandom full; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mount -t proc proc "$root/proc"
inside ldconfig
say "a root of $(wc -l <"$work/packages") packages, $(du -smx "$root" | cut -f1) MiB"

# -- What systemd would do -------------------------------------------------------------------------------------------
unit=$root/usr/lib/systemd/system/rmbd.service
user=61184 # The first of those that systemd gives to services of DynamicUser=.
told() { sed -n "s/^$1=//p" "$unit" | sed -e 's|%d|/run/credentials/rmbd.service|g' -e 's|%S|/var/lib|g'; }
start() {
    credentials=$root/run/credentials/rmbd.service
    rm -rf "$credentials"
    mkdir -p "$credentials"
    for credential in $(told LoadCredential); do
        install -m 400 -o $user -g $user "$root/${credential#*:}" "$credentials/${credential%%:*}"
    done
    chown $user:$user "$credentials"
    for folder in $(told StateDirectory); do
        install -d -m "$(told StateDirectoryMode)" -o $user -g $user "$root/var/lib/$folder"
    done
    : >"$work/ready"
    # shellcheck disable=SC2046  # The words of the unit.
    chroot "$root" setpriv --reuid $user --regid $user --clear-groups --no-new-privs --bounding-set=-all \
        --inh-caps=-all env -i $(told Environment) $(told ExecStart) \
        >"$work/ready" 2>"$work/log" &
    node=$!
    for _ in $(seq 300); do
        grep -q '^rmbd ready ' "$work/ready" && return
        kill -0 $node 2>/dev/null || fail "the node ended"
        sleep 0.1
    done
    fail "the node is not ready"
}
stop() {
    kill "$node"
    wait "$node" || fail "the node ended with $?"
    node=
}
counts() { inside rmbd count "$@" | tr '\n\t' ', '; }
expect() { [ "$2" = "$3" ] || fail "$1: $2, and not $3"; }

# -- Its life --------------------------------------------------------------------------------------------------------
cp "$first" "$second" "$root/tmp/"
install_one() {
    inside apt-get -o Dpkg::Use-Pty=0 -qq install -y "/tmp/$(basename "$1")" >"$work/log" 2>&1 || fail "apt-get install $1"
}
install_one "$first"
say "installed"
expect "the key's mode" "$(stat -c %a "$root/etc/rmbd/cluster.key")" 600
[ ! -e "$root/etc/systemd/system/multi-user.target.wants/rmbd.service" ] || fail "enabled where systemd does not run"
expect "config check" "$(inside rmbd config check /etc/rmbd/rmbd.toml >/dev/null && echo right)" right
inside bash -c '. /usr/share/bash-completion/completions/rmbd' || fail "completions"
start
say "serves: $(cut -c-90 "$work/ready")"
inside rmbd add apple pear apple
expect "counts" "$(counts apple pear plum)" "2 apple,1 pear,0 plum,"
kill -HUP "$node"
expect "counts after a reload" "$(counts apple)" "2 apple,"
stop
say "ended in order"

echo "# mine" >>"$root/etc/rmbd/rmbd.toml"
key=$(cat "$root/etc/rmbd/cluster.key")
install_one "$second"
expect "version" "$(inside dpkg-query -W -f "\${Version}" rmbd)" "$version+1"
expect "a changed configuration" "$(tail -n 1 "$root/etc/rmbd/rmbd.toml")" "# mine"
expect "the key" "$(cat "$root/etc/rmbd/cluster.key")" "$key"
start
expect "counts after an upgrade" "$(counts apple pear plum)" "2 apple,1 pear,0 plum,"
inside rmbd add apple
expect "counts go on" "$(counts apple)" "3 apple,"
stop
say "upgraded, with its counts"

inside apt-get -qq remove -y rmbd >"$work/log" 2>&1 || fail "apt-get remove"
[ -e "$root/var/lib/rmbd/snapshot" ] || fail "a removal takes what was counted"
[ ! -e "$root/usr/bin/rmbd" ] || fail "a removal leaves the program"
inside apt-get -qq purge -y rmbd >"$work/log" 2>&1 || fail "apt-get purge"
rm "$root"/tmp/rmbd_*.deb
left=$(find "$root/etc" "$root/usr" "$root/var/lib" "$root/tmp" -name '*rmbd*')
[ -z "$left" ] || fail "a purge leaves $left"
say "removed and purged"
