#!/usr/bin/env python3
"""Compares adaptive with the best single policy, cell by cell, from the results.jsonl of `kvcache eval`.

ratios.py NAME=FOLDER[,FOLDER..] ..    one NAME for each model; a later line of the same cell and seed counts
Prints a line of CSV for each (model, start format, budget, task): the mean KL of adaptive and of the best single policy from the same start, their ratio and its
90 % interval by a paired bootstrap over texts; then how many cells lie within 1.1, 1.25 and 1.5, those below a KL of 1e-4 counted apart; then at equal bytes the best
start of adaptive against the best (start, policy) of lru, tova, h2o, adakv and random.
"""
import json
import math
import random
import sys
from collections import defaultdict

SMALL = 1e-4
EQUAL = ("lru", "tova", "h2o", "adakv", "random")


def read(folders):
    cells = defaultdict(dict)
    for folder in folders:
        with open(f"{folder}/results.jsonl", encoding="utf-8") as lines:
            for cell in map(json.loads, lines):
                if cell["budget"] is not None and not cell["refused"]:
                    cells[cell["format"], cell["budget"], cell["task"], cell["policy"]][cell["seed"]] = cell["kl"]
    return cells


def mean(values):
    return sum(values) / len(values)


def interval(ours, best, draw):
    ratios = []
    for _ in range(2000):
        picks = [draw.randrange(len(ours)) for _ in ours]
        ratios.append(mean([ours[i] for i in picks]) / max(mean([best[i] for i in picks]), 1e-12))
    ratios.sort()
    return ratios[100], ratios[1899]


def main():
    draw, ratios, equal = random.Random(0), [], []
    small = 0
    print("model,start,budget,task,texts,adaptive_kl,best,best_kl,ratio,low,high")
    for name, folders in (argument.split("=") for argument in sys.argv[1:]):
        cells = read(folders.split(","))
        kls = {}
        for start, budget, task in sorted({key[:3] for key in cells}, key=lambda key: (key[0], -key[1], key[2])):
            ours = cells.get((start, budget, task, "adaptive"))
            if not ours:
                continue
            seeds = sorted(ours)
            singles = {key[3]: [kl[s] for s in seeds] for key, kl in cells.items()
                       if key[:3] == (start, budget, task) and key[3] != "adaptive" and set(seeds) <= set(kl)}
            if not singles:
                continue
            values = [ours[s] for s in seeds]
            best = min(singles, key=lambda policy: mean(singles[policy]))
            low, high = interval(values, singles[best], draw)
            ratio = mean(values) / max(mean(singles[best]), 1e-12)
            print(f"{name},{start},{budget},{task},{len(seeds)},{mean(values):.6f},{best},{mean(singles[best]):.6f},{ratio:.3f},{low:.3f},{high:.3f}")
            if mean(values) < SMALL:
                small += 1
            else:
                ratios.append((ratio, high))
            kls.setdefault((budget, task), []).append((mean(values), min(mean(v) for p, v in singles.items() if p in EQUAL)))
        equal += [max(min(a for a, _ in v), 1e-6) / max(min(s for _, s in v), 1e-6) for v in kls.values()]

    total = len(ratios) + small
    share = lambda most: 100 * (small + sum(r <= most for r, _ in ratios)) / total
    print(f"# {total} cells, {small} below KL {SMALL}; <= 1.1: {share(1.1):.1f} %; <= 1.25: {share(1.25):.1f} %; <= 1.5: {share(1.5):.1f} %; most {max(r for r, _ in ratios):.2f}")
    print(f"# upper end of the 90 % interval: <= 1.25 in {100 * (small + sum(h <= 1.25 for _, h in ratios)) / total:.1f} %, most {max(h for _, h in ratios):.2f}")
    print(f"# geometric mean of the ratios: {math.exp(mean([math.log(r) for r, _ in ratios])):.2f}")
    print(f"# at equal bytes, best start against best start: {len(equal)} cells, geometric mean {math.exp(mean([math.log(r) for r in equal])):.2f}, most {max(equal):.2f}")


main()
