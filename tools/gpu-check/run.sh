#!/usr/bin/env bash
# Publishes gpu-check as one self-contained file that runs without .NET, and runs it with the arguments given.
#
# usage: run.sh [--publish-only] [ARGUMENT...]
# The file lies in artifacts/gpu-check; carry it to a machine with a GPU and run it there: it lists devices, checks each CUDA device
# against the oracle, measures it, and writes gpu-check.json. Exit codes: 0 all right, 1 a check failed or the file is too large, 2 usage.
set -euo pipefail

most_bytes=$((60 * 1000 * 1000))
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target="$root/artifacts/gpu-check"
publish_only=no
if [[ ${1:-} == --publish-only ]]; then
    publish_only=yes
    shift
fi

# No trimming: ILGPU finds its intrinsics by reflection. The lock files of every build stay as they are: this one runtime adds its own packages.
dotnet publish "$root/tools/gpu-check/KvCacheGpu.GpuCheck.csproj" --configuration Release --runtime linux-x64 --self-contained true \
    -p:PublishSingleFile=true -p:EnableCompressionInSingleFile=true -p:PublishTrimmed=false -p:DebugType=none \
    -p:NuGetLockFilePath=obj/linux-x64.lock.json --output "$target/publish" --verbosity quiet --nologo

cp "$target/publish/KvCacheGpu.GpuCheck" "$target/gpu-check"
bytes=$(stat -c %s "$target/gpu-check")
echo "artifacts/gpu-check/gpu-check: $((bytes / 1000 / 1000)) MB of $((most_bytes / 1000 / 1000)) at most"
if ((bytes > most_bytes)); then
    echo "the file is too large" >&2
    exit 1
fi

[[ $publish_only == yes ]] || exec "$target/gpu-check" "$@"
