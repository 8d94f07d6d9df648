#!/usr/bin/env bash
# Runs gpu-check's cases on a real OpenCL runtime without a GPU: PoCL in a Debian trixie userland that is unpacked, not installed.
#
# usage: pocl.sh [ARGUMENT of gpu-check...]
# Needs root, for a mount namespace and chroot. Where PoCL or the namespace cannot be had it says so and exits 0; else gpu-check's exit codes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
userland="$root/artifacts/pocl"

give_up() {
    echo "pocl: NOT RUN, $*"
    exit 0
}

[[ $(id -u) == 0 ]] || give_up "root is needed for a mount namespace"
unshare --mount true 2>/dev/null || give_up "this machine allows no mount namespace"
if [[ ! -e $userland/etc/OpenCL/vendors/pocl.icd ]]; then
    "$root/tools/trixie/unpack.sh" --with-dependencies "$userland" pocl-opencl-icd ocl-icd-libopencl1 libstdc++6 bash coreutils usr-is-merged ||
        give_up "PoCL cannot be had on this machine"
fi

"$root/tools/gpu-check/run.sh" --publish-only
cp "$root/artifacts/gpu-check/gpu-check" "$userland/gpu-check"
mkdir -p "$userland"/{proc,sys,dev,tmp}

# The namespace takes the mounts away with it. Why one unoptimized compute unit: docs/devices.md.
code=0
unshare --mount bash -c '
    userland=$1
    shift
    for folder in proc sys dev; do
        mount --rbind "/$folder" "$userland/$folder"
    done
    exec "$(command -v chroot || echo /usr/sbin/chroot)" "$userland" /usr/bin/env -i PATH=/usr/bin HOME=/tmp \
        POCL_EXTRA_BUILD_FLAGS=-cl-opt-disable POCL_CPU_MAX_CU_COUNT=1 /gpu-check --device opencl:0 --subset --no-bench --out /tmp/gpu-check.json "$@"
' pocl "$userland" "$@" || code=$?
cp "$userland/tmp/gpu-check.json" "$root/artifacts/gpu-check/pocl.json" 2>/dev/null || true
exit "$code"
