#!/usr/bin/env bash
# A Swift toolchain for a Debian without one: that of a newer Debian, in a folder of its own (3 GB, two
# minutes, as root). Then tests/handover/app/test_toolchain.py runs:
#
#     tools/debian_swift.sh /opt/swift && PATH=/opt/swift/bin:$PATH uv run pytest tests/handover/app
#
# Folders below /tmp are shared with it, so that it sees what pytest writes there.
set -euo pipefail
folder=$(realpath -m "${1:?usage: tools/debian_swift.sh FOLDER}")
root=$folder/root

if ! test -x "$root/usr/bin/swift"; then
  command -v debootstrap >/dev/null || apt-get install -y --no-install-recommends debootstrap
  debootstrap --variant=minbase trixie "$root"
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    swiftlang libc6-dev libstdc++-14-dev libncurses-dev binutils git
fi
for shared in /proc /dev /tmp; do
  mountpoint -q "$root$shared" || mount --bind "$shared" "$root$shared"
done

mkdir -p "$folder/bin"
cat >"$folder/bin/swift" <<END
#!/bin/sh
exec chroot "$root" /bin/sh -c 'cd "\$0" 2>/dev/null; exec /usr/bin/swift "\$@"' "\$PWD" "\$@"
END
chmod +x "$folder/bin/swift"
"$folder/bin/swift" --version
