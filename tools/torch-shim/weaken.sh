#!/usr/bin/env bash
# Makes a copy of TorchSharp's native library that loads where libstdc++ is older than that of GCC 13 (Debian 12, Ubuntu 22.04).
#
# usage: weaken.sh LIBRARY COPY
#
# The library was built by GCC 13, which names _ZSt21ios_base_library_initv@GLIBCXX_3.4.32 in every file that includes <iostream>. The name only makes
# sure that a libstdc++ is linked which sets up its streams by itself: no code calls it, and no relocation refers to it. So nothing is missing on an
# older machine but the version's name. The copy differs in one bit: this version is marked weak, so that the loader no longer asks for it.
# Exit code 3: readelf is not here. Refused, with exit code 1: a library that really uses the version.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: weaken.sh LIBRARY COPY" >&2; exit 2; }
library=$1 copy=$2 version=GLIBCXX_3.4.32 name=_ZSt21ios_base_library_initv
command -v readelf >/dev/null || { echo "torch-shim: readelf (binutils) is not here" >&2; exit 3; }
export LC_ALL=C

used=$(readelf --dyn-syms -W "$library" | grep -F "@$version" | awk '{ print $8 }')
[ "$used" = "$name@$version" ] || { echo "torch-shim: $library needs more of $version than $name: ${used//$'\n'/, }" >&2; exit 1; }
if readelf -rW "$library" | grep -qF "$name"; then echo "torch-shim: $library refers to $name" >&2; exit 1; fi

# Where the section of version needs lies in the file, and where in it the entry of the version: its flags are the 16-bit number 4 bytes in.
needs() { readelf -VW "$1" | sed -n '/^Version needs section/,$p'; }
section=$(needs "$library" | awk '/Offset:/ { sub(/.*Offset: */, ""); print $1 }')
entry=$(needs "$library" | awk -v name="$version" '$3 == name { sub(/:$/, "", $1); print $1 }')
[ -n "$section" ] && [ -n "$entry" ] || { echo "torch-shim: $library asks for no $version" >&2; exit 1; }

mkdir -p "$(dirname "$copy")"
rm -f "$copy" # It may be a link to the library itself.
cp "$library" "$copy"
chmod u+w "$copy"
printf '\002' | dd of="$copy" bs=1 seek=$((section + entry + 4)) conv=notrunc status=none
[[ $(needs "$copy" | grep -F "Name: $version ") == *"Flags: WEAK"* ]] || { echo "torch-shim: the copy is not as expected" >&2; exit 1; }
