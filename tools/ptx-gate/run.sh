#!/usr/bin/env bash
# Compiles every portable kernel to machine code for sm_80 and sm_90 without a GPU, and holds it to tools/ptx-gate/limits.txt:
# no spills, no stack frame, no static shared memory, no more registers than its limit, and where codes are made no fused multiply-add.
#
# usage: run.sh [--require]
# ptxas is taken from PTXAS, the cache in artifacts/, the PATH, or Debian trixie's package by this machine's own apt mirror. Where it cannot be had
# the gate says so and exits 0, or with --require 1. Exit codes else: 0 within the limits, 1 beyond one, 2 usage.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache="$root/artifacts/ptxas"
ptx="$root/artifacts/ptx"
required=no
case "${1:-}" in
    "") ;;
    --require) required=yes ;;
    *)
        echo "usage: run.sh [--require]" >&2
        exit 2
        ;;
esac

find_ptxas() {
    local candidate
    for candidate in "${PTXAS:-}" "$cache/usr/bin/ptxas" "$(command -v ptxas || true)"; do
        if [[ -n $candidate ]] && "$candidate" --version >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done

    "$root/tools/trixie/unpack.sh" "$cache" nvidia-cuda-toolkit >&2 || return 1
    "$cache/usr/bin/ptxas" --version >/dev/null 2>&1 && echo "$cache/usr/bin/ptxas"
}

if ! ptxas=$(find_ptxas); then
    echo "ptx-gate: NOT RUN, ptxas cannot be had on this machine"
    [[ $required == no ]]
    exit
fi

rm -rf "$ptx"
dotnet run --project "$root/tools/gpu-check/KvCacheGpu.GpuCheck.csproj" --configuration Release -- --ptx "$ptx"
"$ptxas" --version | tail -n 2

# One line of figures for each kernel: architecture, name, registers, static shared memory, stack frame, spill stores and loads, all but registers in bytes;
# then whether a product is fused with an addition: fusing rounds once instead of twice, and codes are the same bits on every tier.
measure() {
    local file=$1 architecture name figures code fused=0
    architecture=$(basename "$(dirname "$file")")
    name=$(basename "$file" .ptx)
    code=$(mktemp -d)
    if ! figures=$("$ptxas" "-arch=$architecture" -v --output-file "$code/fused" "$file" 2>&1); then
        echo "$architecture $name does not assemble: $figures" >&2
        return 1
    fi

    case $name in
        keys-* | digest-* | transcode-*)
            "$ptxas" "-arch=$architecture" --fmad false --output-file "$code/apart" "$file"
            cmp --silent "$code/fused" "$code/apart" || fused=1
            ;;
    esac
    rm -r "$code"
    awk -v architecture="$architecture" -v name="$name" -v fused="$fused" '
        { for (i = 2; i <= NF; i++) {
            if ($i ~ /^registers/) registers = $(i - 1)
            if ($i == "bytes" && $(i + 1) ~ /^smem/) shared = $(i - 1)
            if ($i == "bytes" && $(i + 1) == "stack") stack += $(i - 1)
            if ($i == "bytes" && $(i + 1) == "spill") spills += $(i - 1)
        } }
        END { print architecture, name, registers, shared + 0, stack + 0, spills + 0, fused }' <<<"$figures"
}

export ptxas
export -f measure
find "$ptx" -name '*.ptx' | sort | xargs -P "$(nproc)" -I{} bash -c 'measure {}' | sort >"$ptx/figures.txt"

awk '
    FNR == NR {
        if ($1 !~ /^(#|$)/) {
            patterns[++count] = $1
            most[count] = $2
        }
        next
    }
    FNR == 1 { printf "%-24s %-6s %9s %6s %7s %6s %7s\n", "kernel", "arch", "registers", "limit", "shared", "stack", "spills" }
    {
        limit = -1
        for (i = 1; i <= count && limit < 0; i++) {
            pattern = patterns[i]
            gsub(/\*/, ".*", pattern)
            if ($2 ~ "^" pattern "$") {
                limit = most[i]
                used[i] = 1
            }
        }
        verdict = ""
        if (limit < 0) verdict = " NO LIMIT IN THE TABLE"
        else if ($3 > limit) verdict = " TOO MANY REGISTERS"
        if ($4 > 0) verdict = verdict " STATIC SHARED MEMORY"
        if ($5 > 0) verdict = verdict " STACK FRAME"
        if ($6 > 0) verdict = verdict " SPILLS"
        if ($7 > 0) verdict = verdict " FUSED"
        printf "%-24s %-6s %9d %6d %7d %6d %7d%s\n", $2, $1, $3, limit, $4, $5, $6, verdict
        if (verdict != "") failures++
        if ($3 > largest) largest = $3
        kernels++
    }
    END {
        for (i = 1; i <= count; i++) {
            if (!used[i]) {
                print "no kernel is named " patterns[i]
                failures++
            }
        }
        if (kernels == 0) {
            print "no kernels"
            failures++
        }
        printf "ptx-gate: %d kernels, %d registers at most, %d beyond their limits\n", kernels, largest, failures + 0
        exit failures > 0
    }' "$root/tools/ptx-gate/limits.txt" "$ptx/figures.txt"
