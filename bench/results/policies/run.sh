#!/usr/bin/env bash
# The matrix of docs/eviction.md: run.sh TEXTS FIRST-SEED FOLDER. Budgets above those of an empty cache, as tables take a large part of so small a cache. Left out are starts
# and budgets at which nothing has to go (I8 at 75 %, T4 and T3 at 75 and 50 %).
set -euo pipefail
cd "$(dirname "$0")/../../.."
kvcache="dotnet run -c Release --no-build --project tools/KvCacheGpu.Cli --"
policies=lru,tova,h2o,window,random,adakv,adaptive
[ -d "$3/second-x16" ] || $kvcache widen tools/second-model "$3/second-x16" --outliers 16
for model in demo second second-x16; do
  case $model in demo) choice=() ;; second) choice=(--model tools/second-model) ;; *) choice=(--model "$3/$model") ;; esac
  for start in t3:.25,.15 t4:.25,.15 i8:.5,.25,.15 f16:.75,.5,.25,.15; do
    $kvcache eval "${choice[@]}" --tasks text,packed,repeat,perplexity --formats "${start%%:*}" --policies $policies --budgets "${start##*:}" --budgets-above-empty \
      --seeds "$1" --first-seed "$2" --device cpu --out "$3/$model-${start%%:*}" --resume
  done
done
python3 bench/results/policies/ratios.py $(for m in demo second second-x16; do echo "$m=$3/$m-t3,$3/$m-t4,$3/$m-i8,$3/$m-f16"; done) > bench/results/policies/ratios.csv
