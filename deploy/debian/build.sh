#!/usr/bin/env bash
# Builds the Debian package from programs that are built already.
# build.sh FOLDER OUT [VERSION]: FOLDER has `rmbd` and `loadgen`, and `sbom.cdx.json` if what they are made of (as
# deploy/sbom.py prints it) shall be in the package; the package goes to OUT, and its path is printed.
# VERSION is that of Cargo.toml if it is not given. RMBD_MAINTAINER is who answers for the package,
# RMBD_DEB_COMPRESSION how dpkg-deb compresses it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
programs=$(cd "$1" && pwd)
out=$(mkdir -p "$2" && cd "$2" && pwd)
version=${3:-$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")}
maintainer=${RMBD_MAINTAINER:-the rmbd contributors <maintainers@rmbd.invalid>}
architecture=$(dpkg --print-architecture)
# The same sources make the same package.
last_change() { git -C "$top" log -1 --format=%ct 2>/dev/null || stat -c %Y "$top/CHANGELOG.md"; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(last_change)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022

put() { install -D -m "$1" "$2" "$root/$3"; }
# A compressed file without a name and a time.
squeeze() { gzip -9n "$root/$1"; }

put 755 "$programs/rmbd" usr/bin/rmbd
put 755 "$programs/loadgen" usr/bin/rmbd-loadgen
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root"/usr/bin/*
put 644 "$top/deploy/systemd/rmbd.service" usr/lib/systemd/system/rmbd.service
put 644 "$top/deploy/sysctl.d/50-rmbd.conf" usr/lib/sysctl.d/50-rmbd.conf
put 644 "$here/rmbd.toml" etc/rmbd/rmbd.toml

put 644 "$here/rmbd-loadgen.1" usr/share/man/man1/rmbd-loadgen.1
"$programs/rmbd" man "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*.1
completions() { mkdir -p "$(dirname "$root/$2")" && "$programs/rmbd" completions "$1" >"$root/$2"; }
completions bash usr/share/bash-completion/completions/rmbd
completions zsh usr/share/zsh/vendor-completions/_rmbd
completions fish usr/share/fish/vendor_completions.d/rmbd.fish

doc=usr/share/doc/rmbd
put 644 "$here/copyright" "$doc/copyright"
put 644 "$top/README.md" "$doc/README.md"
put 644 "$top/CHANGELOG.md" "$doc/NEWS.md"
if [ -e "$programs/sbom.cdx.json" ]; then
    put 644 "$programs/sbom.cdx.json" "$doc/sbom.cdx.json"
    squeeze "$doc/sbom.cdx.json"
fi
squeeze "$doc/NEWS.md"
squeeze "$doc/README.md"
cat >"$root/$doc/changelog" <<END
rmbd ($version) unstable; urgency=medium

  * What is new stands in NEWS.md.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
squeeze "$doc/changelog"

# The libraries that the programs need, with the versions that have what they use.
mkdir -p "$work/debian" "$root/DEBIAN"
printf 'Source: rmbd\n\nPackage: rmbd\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/rmbd root/usr/bin/rmbd-loadgen | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "no libraries found" >&2; exit 1; }

for script in postinst prerm postrm; do
    install -m 755 "$here/scripts/$script" "$root/DEBIAN/$script"
done
echo /etc/rmbd/rmbd.toml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: rmbd
Version: $version
Architecture: $architecture
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$root" | cut -f1)
Depends: $depends
Section: net
Priority: optional
Description: replicated count-min-sketch server
 Counts how often keys happen, approximately, at the rate of the network, on
 all nodes of a cluster together, in memory that does not grow with the number
 of keys. It answers how often a key was added, in all or in the last time,
 whether that is within a limit, and which keys are the largest.
 .
 Clients speak its own protocol over UDP, JSON over HTTP, Redis's protocol,
 HAProxy's offload protocol, or that of Envoy's rate limit service.
END
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

package=$out/rmbd_${version}_$architecture.deb
read -ra compression <<<"${RMBD_DEB_COMPRESSION:--Zxz}"
dpkg-deb --root-owner-group "${compression[@]}" --build "$root" "$package" >/dev/null
echo "$package"
