#!/usr/bin/env bash
# Installs the Swift toolchain of a newer Debian in a separate folder (3 GB, two minutes, as root).
# Then tests/handover/app runs:
#
#     tools/debian_swift.sh /opt/swift && PATH=/opt/swift/bin:$PATH uv run pytest tests/handover/app
#     tools/debian_swift.sh remove /opt/swift
#
# A second run changes nothing. Folders of the machine are mounted into the toolchain's root only for
# processes that use them, in a mount namespace of each, so that nothing stays mounted and a removal
# of the folder deletes no file of the machine.
set -euo pipefail
usage="usage: tools/debian_swift.sh [remove] FOLDER"
remove=
if [ "${1:-}" = remove ]; then remove=yes; shift; fi
[ $# -eq 1 ] && [ -n "$1" ] || { echo "$usage" >&2; exit 2; }
folder=$(realpath -m "$1")
root=$folder/root
partial=$folder/root.partial

# An earlier version of this script mounted folders of the machine permanently.
mounted=$(awk -v below="$folder/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo)
if [ -n "$mounted" ]; then
  echo "$folder has mounted folders of this machine in it. Unmount them first:" >&2
  echo "$mounted" | sort -r | sed 's/^/    umount /' >&2
  exit 1
fi

if [ -n "$remove" ]; then
  [ -e "$folder" ] || exit 0
  # Only files that this script makes are removed.
  if [ ! -f "$folder/bin/swift" ] && [ ! -d "$partial" ]; then
    echo "$folder is not a folder of tools/debian_swift.sh: it has no bin/swift" >&2
    exit 1
  fi
  rm -rf --one-file-system "$root" "$partial"
  rm -f "$folder/bin/swift"
  rmdir --ignore-fail-on-non-empty "$folder/bin" "$folder"
  exit 0
fi

# Outside of the root, the absolute link usr/bin/swift leads to nothing.
if [ ! -e "$root/usr/libexec/swift/bin/swift" ]; then
  command -v debootstrap >/dev/null ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap
  rm -rf --one-file-system "$partial"
  mkdir -p "$partial"
  unshare --mount debootstrap --variant=minbase trixie "$partial"
  chroot "$partial" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    swiftlang libc6-dev libstdc++-14-dev libncurses-dev binutils git
  chroot "$partial" apt-get clean
  rm -rf --one-file-system "$root"
  mv "$partial" "$root"
fi

mkdir -p "$folder/bin"
cat >"$folder/bin/swift" <<END
#!/bin/sh
# Runs Swift of $root, which sees the machine's folders except those of the system.
exec unshare --mount --propagation private /bin/sh -c '
  root=\$1; shift
  for shared in /*; do
    case \$shared in /bin|/sbin|/lib*|/usr|/etc|/var|/boot) continue ;; esac
    [ -d "\$shared" ] && [ ! -L "\$shared" ] || continue
    mkdir -p "\$root\$shared" && mount --rbind "\$shared" "\$root\$shared" || exit 1
  done
  exec chroot "\$root" /bin/sh -c "cd \"\\\$0\" || exit 1; exec /usr/bin/swift \"\\\$@\"" "\$PWD" "\$@"
' swift "$root" "\$@"
END
chmod +x "$folder/bin/swift"
"$folder/bin/swift" --version
