#!/usr/bin/env bash
# Unpacks Debian trixie packages into a folder, without installing anything on this machine: an isolated apt with its own lists, then dpkg -x.
#
# usage: unpack.sh [--with-dependencies] FOLDER PACKAGE...
# The mirror and its keyring are those of this machine's own apt sources. Exit code 3: no Debian mirror, or the packages cannot be had.
set -euo pipefail

closure=no
if [[ ${1:-} == --with-dependencies ]]; then
    closure=yes
    shift
fi

if (($# < 2)); then
    echo "usage: unpack.sh [--with-dependencies] FOLDER PACKAGE..." >&2
    exit 2
fi

folder=$1
shift

refuse() {
    echo "trixie: $*" >&2
    exit 3
}

command -v apt-get >/dev/null && command -v dpkg >/dev/null || refuse "no apt on this machine"

# The first archive of Debian itself: deb822 stanzas, then one-line entries. Security and third-party archives do not carry the packages.
sources() {
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
        /^URIs:/ { for (i = 2; i <= NF; i++) print $i }'
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk '
        $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; break } }'
}

mirror=$(sources | grep -E '/debian/?$' | head -n 1) || true
[[ -n $mirror ]] || refuse "this machine's apt sources name no Debian mirror"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[[ -r $keyring ]] || refuse "no Debian archive keyring"

state="$folder/.apt"
mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
echo "deb [signed-by=$keyring] $mirror trixie main contrib non-free non-free-firmware" >"$state/sources.list"
: >"$state/status"
# As root, apt would download as a user who may not enter the folder.
options=(
    -qq
    -oDir::Etc::SourceList="$(realpath "$state/sources.list")"
    -oDir::Etc::SourceParts=/dev/null
    -oDir::State::Lists="$(realpath "$state/lists")"
    -oDir::State::status="$(realpath "$state/status")"
    -oDir::Cache="$(realpath "$state/cache")"
    -oAPT::Sandbox::User=root
    -oAPT::Install-Recommends=false
    -oAcquire::Languages=none
    -oAcquire::Retries=2
    -oDebug::NoLocking=true
)

apt-get "${options[@]}" update || refuse "no package lists from this machine's mirror"
if [[ $closure == yes ]]; then
    apt-get "${options[@]}" --yes --download-only install "$@" >/dev/null || refuse "cannot download $* and what they need"
else
    archives=$(realpath "$state/cache/archives")
    (cd "$archives" && apt-get "${options[@]}" download "$@") || refuse "cannot download $*"
fi

for package in "$state"/cache/archives/*.deb; do
    dpkg -x "$package" "$folder"
    rm "$package"
done

rm -rf "$state"
