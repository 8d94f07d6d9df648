#!/usr/bin/env bash
# Compiles every kernel to machine code for sm_80 and sm_90 without a GPU, and holds it to tools/ptx-gate/limits.txt: no spills, no stack frame,
# no static shared memory, no more registers than its limit, and where codes are made no fused multiply-add. Kernels with tensor-core instructions may
# have shared memory and a few spills; what their page loop takes for each (token, KV head) has limits of its own. Before that the gate tests its own
# counting on a kernel whose figures are known.
#
# usage: run.sh [--require] [--no-build]
# ptxas, with cuobjdump beside it, is taken from PTXAS, the cache in artifacts/, the PATH, or Debian trixie's package by this machine's own apt mirror.
# Where it cannot be had the gate says so and exits 0, or with --require 1. Exit codes else: 0 within the limits, 1 beyond one, 2 usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache="$root/artifacts/ptxas"
ptx="$root/artifacts/ptx"
required=no
built=no
for argument in "$@"; do
    case $argument in
        --require) required=yes ;;
        --no-build) built=yes ;;
        *)
            echo "usage: run.sh [--require] [--no-build]" >&2
            exit 2
            ;;
    esac
done

find_ptxas() {
    local candidate
    for candidate in "${PTXAS:-}" "$cache/usr/bin/ptxas" "$(command -v ptxas || true)"; do
        if [[ -n $candidate ]] && "$candidate" --version >/dev/null 2>&1 && [[ -x $(dirname "$candidate")/cuobjdump ]]; then
            echo "$candidate"
            return
        fi
    done

    "$root/tools/trixie/unpack.sh" "$cache" nvidia-cuda-toolkit >&2 || return 1
    "$cache/usr/bin/ptxas" --version >/dev/null 2>&1 && echo "$cache/usr/bin/ptxas"
}

# gpu-check, built once; with --no-build as the last Release build left it.
project="$root/tools/gpu-check/KvCacheGpu.GpuCheck.csproj"
[[ $built == yes ]] || dotnet build "$project" --configuration Release --verbosity quiet --nologo
check() { dotnet run --no-build --project "$project" --configuration Release -- "$@"; }

# Every kernel compiles to PTX, with ptxas or without.
rm -rf "$ptx"
check --ptx "$ptx"

if ! ptxas=$(find_ptxas); then
    echo "ptx-gate: NOT RUN, ptxas cannot be had on this machine"
    [[ $required == no ]]
    exit
fi

# Beside a kernel's PTX: .log says registers, shared memory and spills; .sass is the machine code of a kernel with tensor-core instructions; .fused lies
# there if a product is fused with an addition where codes are made: fusing rounds once instead of twice, and codes are the same bits on every tier.
assemble() {
    local file=$1 base=${1%.ptx} architecture
    architecture=$(basename "$(dirname "$file")")
    if ! "$ptxas" "-arch=$architecture" -v --output-file "$base.cubin" "$file" >"$base.log" 2>&1; then
        echo "$file does not assemble: $(cat "$base.log")" >&2
        return 1
    fi

    if grep --quiet 'mma\.sync' "$file"; then
        "$(dirname "$ptxas")/cuobjdump" -sass "$base.cubin" >"$base.sass" || return 1
    fi

    case $(basename "$file") in
        keys-* | digest-* | transcode-*)
            "$ptxas" "-arch=$architecture" --fmad false --output-file "$base.apart" "$file" || return 1
            cmp --silent "$base.cubin" "$base.apart" || touch "$base.fused"
            ;;
    esac
}

export ptxas
export -f assemble
assemble_all() { find "$1" -name '*.ptx' -print0 | xargs -0 -P "$(nproc)" -I{} bash -c 'assemble "$1"' assemble {}; }

# The counting on a kernel whose figures are known; what ptxas chooses freely is left a range. Limits that are too tight must be missed, each by name.
self_test() {
    local own="$ptx/selftest" source="$root/tools/ptx-gate/selftest" architecture miss
    for architecture in sm_80 sm_90; do
        mkdir -p "$own/$architecture"
        cp "$source"/*.ptx "$own/$architecture"
    done

    assemble_all "$own"
    check --gate "$own" --limits "$source/limits.txt" >"$own/report" || { cat "$own/report"; return 1; }
    awk '
        # kernel, arch, SASS, limit, mma, half, smem, x16, x8, x4, rare, registers, spill, shared, warps, KiB in flight
        $1 ~ /^tensor8-selftest/ {
            kernels++
            if ($3 < 1 || $3 > 1.4 || $5 < .12 || $5 > .13 || $6 != .06 || $7 != .06 || $8 != $5 || $9 + $10 > 0 || $11 != 40 || $14 != 512 || $16 != $15) {
                print "ptx-gate: the counting is wrong: " $0
                wrong = 1
            }
        }
        END { exit wrong || kernels != 2 }' "$own/report" || return 1
    if check --gate "$own" --limits "$source/tight.txt" >"$own/report"; then
        echo "ptx-gate: limits that are too tight hold"
        return 1
    fi

    for miss in "TOO MANY REGISTERS" INSTRUCTIONS "FEW LOADS IN FLIGHT" "SHARED MEMORY"; do
        grep --quiet "$miss" "$own/report" || { echo "ptx-gate: \"$miss\" is not told"; cat "$own/report"; return 1; }
    done

    echo "ptx-gate: the counting is right on a kernel whose figures are known"
    rm -r "$own"
}

"$ptxas" --version | tail -n 2
self_test
assemble_all "$ptx"
check --gate "$ptx" --limits "$root/tools/ptx-gate/limits.txt"
