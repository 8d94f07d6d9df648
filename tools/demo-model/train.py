#!/usr/bin/env python3
"""Trains a small Llama that reads a text of the public domain and remembers facts strewn into it.

    python3 train.py OUT [--text NAME...] [--minutes M] [--stages retrieve|read|long|stretch|last] [--threads N] [--learning-rate R]
                         [--layers N] [--hidden N] [--heads N] [--kv-heads N] [--head-width N] [--inner N]
                         [--held-out S] [--packed S] [--sinks W] [--longest N]
                         [--rarest-value N]

Needs PyTorch. A text is `bible` (the program of Debian's bible-kjv package) or a dictionary of dictd (`jargon`: the package
dict-jargon; `devil`: dict-devil). An OUT that holds a checkpoint is continued, in the shape that its config.json gives. The
weights of the demonstration model came from three runs, one after the other, on two CPU cores (tools/second-model/README.md
has the commands of the other model):

    python3 train.py OUT --minutes 11 --stages retrieve   short sequences: the heads that match content form within minutes
    python3 train.py OUT --minutes 58 --stages read       128 to 2,048 tokens, more text in the mix
    python3 train.py OUT --minutes 50 --stages long       2,048 tokens only

OUT receives config.json, model.safetensors (F16), vocab.json, merges.txt and tokenizer.json in Hugging Face layout, document.txt (the text held
out from training), and checkpoint.pt to continue from.
"""
import argparse
import collections
import gzip
import json
import math
import random
import re
import struct
import subprocess
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1024, "hidden_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 640, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "float16",
    "bos_token_id": 0, "eos_token_id": 1,
}
BOS = CONFIG["bos_token_id"]
PIECE = 128

# The entries of CONFIG that options give.
SHAPE = {
    "layers": "num_hidden_layers", "hidden": "hidden_size", "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
    "head_width": "head_dim", "inner": "intermediate_size",
}

# Name: share of plain text, share of copying (the rest is recall), then (from this fraction of the time on, tokens, batch).
STAGES = {
    "retrieve": (0.25, 0.35, [(0.0, 64, 24)]),
    "read": (0.30, 0.20, [(0.0, 128, 32), (0.1, 256, 16), (0.25, 512, 8), (0.5, 1024, 4), (0.78, 2048, 2)]),
    "long": (0.30, 0.20, [(0.0, 2048, 2)]),
    "stretch": (0.30, 0.10, [(0.0, 256, 16), (0.25, 512, 6), (0.65, 1024, 2)]),
    "last": (0.25, 0.05, [(0.0, 1024, 2), (0.2, 2048, 1)]),
}


# ---- text and tokens -------------------------------------------------------------------------------------------------------

def read_bible():
    """The whole text as one line: no verse numbers, no chapter titles, no prompt of the program that prints it."""
    printed = subprocess.run(["bible"], input="gen1:1-rev22:21\nq\n", capture_output=True, text=True, check=True).stdout
    verses = (re.sub(r"^\s*\d+\s+", "", line).strip() for line in printed.splitlines())
    return " ".join(v for v in verses if v and "bible(KJV)" not in v and not re.match(r"^[\w ]+ \d+$", v))


# The words with which the text of a dictionary begins, after the notes of those who made the package.
DICTIONARIES = {"jargon": "(TM)", "devil": "_The Devil's Dictionary_ was begun"}


def read_dictionary(name):
    """The entries of a dictionary of dictd as one line of ASCII: plain quotation marks, no braces of links, no drawn tables."""
    printed = gzip.decompress(Path(f"/usr/share/dictd/{name}.dict.dz").read_bytes()).decode()
    begin = DICTIONARIES[name]
    lines = (begin + printed.split(begin, 1)[1]).splitlines()[:-1]  # The last line is the dictionary's alphabet.
    plain = " ".join(lines).translate(str.maketrans("\xa0“”‘’—−·", " \"\"''--'", "{}\xad"))
    return re.sub(r"\s+", " ", plain.encode("ascii", "ignore").decode()).strip()


def read_text(names):
    return " ".join(read_bible() if name == "bible" else read_dictionary(name) for name in names)


def byte_letters():
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


class Tokenizer:
    SPLIT = re.compile(r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s+")
    LETTERS = byte_letters()

    def __init__(self, merges):
        self.merges = merges
        self.rank = {pair: i for i, pair in enumerate(merges)}
        alphabet = [self.LETTERS[b] for b in range(256)]
        self.ids = {token: i for i, token in enumerate(["<bos>", "<eos>", *alphabet, *(a + b for a, b in merges)])}
        self.words = {}

    @classmethod
    def learn(cls, text, size):
        """Byte pair encoding: again and again the most frequent pair of neighbours becomes a token."""
        words = [([cls.LETTERS[b] for b in word.encode()], n) for word, n in collections.Counter(cls.SPLIT.findall(text)).items()]
        merges = []
        while 2 + 256 + len(merges) < size:
            pairs = collections.Counter()
            for symbols, n in words:
                for pair in zip(symbols, symbols[1:]):
                    pairs[pair] += n
            best = max(pairs, key=lambda pair: (pairs[pair], pair))
            merges.append(best)
            for symbols, _ in words:
                cls.merge(symbols, best)
        return cls(merges)

    @classmethod
    def load(cls, folder):
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        return cls([tuple(line.split(" ")) for line in lines])

    def save(self, folder):
        (folder / "vocab.json").write_text(json.dumps(self.ids, ensure_ascii=False), encoding="utf-8")
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in self.merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "tokenizer.json").write_text(json.dumps(self.description(), ensure_ascii=False), encoding="utf-8")

    def description(self):
        """What Hugging Face's tokenizer.json says, from which other programs read how text is split."""
        start = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}]
        return {
            "version": "1.0",
            "added_tokens": [
                {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                for i, token in enumerate(["<bos>", "<eos>"])
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": self.SPLIT.pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            ]},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [*start, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [*start, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<bos>": {"id": "<bos>", "ids": [0], "tokens": ["<bos>"]}},
            },
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
            "model": {"type": "BPE", "vocab": self.ids, "merges": [f"{a} {b}" for a, b in self.merges], "ignore_merges": False, "byte_fallback": False},
        }

    @staticmethod
    def merge(symbols, pair):
        i = 0
        while i + 1 < len(symbols):
            if (symbols[i], symbols[i + 1]) == pair:
                symbols[i:i + 2] = ["".join(pair)]
            i += 1

    def encode(self, text):
        ids = []
        for word in self.SPLIT.findall(text):
            if word not in self.words:
                self.words[word] = self.encode_word(word)
            ids += self.words[word]
        return ids

    def encode_word(self, word):
        symbols = [self.LETTERS[b] for b in word.encode()]
        while True:
            known = [p for p in zip(symbols, symbols[1:]) if p in self.rank]
            if not known:
                return [self.ids[s] for s in symbols]
            self.merge(symbols, min(known, key=self.rank.get))


# ---- examples --------------------------------------------------------------------------------------------------------------

class Examples:
    """Token rows to learn from, each with a mask: 1 where a token is the answer to something said before."""

    def __init__(self, tokenizer, ids, text_share, copy_share, packed_share, rarest_value):
        self.ids, self.text_share, self.copy_share, self.packed_share = ids, text_share, copy_share, packed_share
        self.say, self.ask, self.stop = (tokenizer.encode(t) for t in (" Now the word", " What word", "."))
        # Words of one token, the rarest first: keys must not come up in the text by themselves.
        words = [i for token, i in tokenizer.ids.items() if re.fullmatch("Ġ[a-z]{3,}", token)]
        random.Random(7).shuffle(words)
        counts = collections.Counter(ids)
        self.words = sorted(words, key=lambda word: counts[word])
        self.keys, self.values = self.words[:128], self.words[rarest_value:]

    def draw(self, length):
        kind = random.random()
        if kind < self.text_share * self.packed_share:
            return self.packed(length), [0] * length
        if kind < self.text_share:
            return [BOS, *self.take(length - 1)], [0] * length
        if kind < self.text_share + self.copy_share:
            return self.copying(length)
        return self.recall(length, random.randint(2, max(3, length // 32)))

    def take(self, length):
        start = random.randrange(len(self.ids) - length)
        return self.ids[start:start + length]

    def packed(self, length):
        """Passages one after the other, each begun by BOS."""
        row = []
        while len(row) < length:
            row += [BOS, *self.take(random.randint(16, 16 + length // 4))]
        return row[:length]

    @staticmethod
    def noise(shortest, longest):
        return random.choices(range(2, CONFIG["vocab_size"]), k=random.randint(shortest, longest))

    def copying(self, length):
        """Segments that come again. Their distances are random: with a fixed one the model learns the distance, not the content."""
        segments = [
            self.noise(2, 12) if random.random() < 0.5 else random.choices(self.words, k=random.randint(2, 8))
            for _ in range(random.randint(1, 1 + length // 48))
        ]
        row, mask, seen = [BOS], [0], set()
        while len(row) < length:
            if random.random() < 0.5:
                gap = self.take(random.randint(1, 12)) if random.random() < 0.5 else self.noise(1, 12)
                row += gap
                mask += [0] * len(gap)
            which = random.randrange(len(segments))
            row += segments[which]
            mask += [0] + [int(which in seen)] * (len(segments[which]) - 1)
            seen.add(which)
        return row[:length], mask[:length]

    def recall(self, length, facts, questions_at_end=None):
        """Facts at random places of running text; questions about them, some on the way, the rest after the text."""
        keys = random.sample(self.keys, min(facts, len(self.keys)))
        meaning = {key: random.choice(self.values) for key in keys}
        questions = questions_at_end or len(keys)
        said, asked = len(self.say) + 2 + len(self.stop), len(self.ask) + 2 + len(self.stop)
        filler = self.take(max(1, length - 1 - len(keys) * said - questions * asked))
        row, mask, known, done = [BOS], [0], [], 0

        def add(tokens, answer_at=None):
            row.extend(tokens)
            mask.extend(int(i == answer_at) for i in range(len(tokens)))

        def question(key):
            add([*self.ask, key, meaning[key], *self.stop], answer_at=len(self.ask) + 1)

        for place, key in zip(sorted(random.randrange(len(filler) + 1) for _ in keys), keys):
            add(filler[done:place])
            done = place
            add([*self.say, key, meaning[key], *self.stop])
            known.append(key)
            if not questions_at_end and questions > 1 and random.random() < 0.3:
                questions -= 1
                question(random.choice(known))
        add(filler[done:])
        for key in random.sample(known, min(questions, len(known))):
            question(key)
        if len(row) < length:
            add(self.take(length - len(row)))
        return row[:length], mask[:length]


# ---- the model, under Hugging Face's names ---------------------------------------------------------------------------------

def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def turn(x, cosine, sine):
    """RoPE: the pair (i, i + width/2) turns by its position times its frequency."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosine - b * sine, b * cosine + a * sine], dim=-1)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CONFIG["hidden_size"]))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]) * self.weight


def attend(q, k, v):
    """Causal attention. Where PyTorch is too old to have its own: queries in pieces, each with the keys up to its end."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    q, pieces = q / math.sqrt(q.shape[3]), []
    for start in range(0, q.shape[2], PIECE):
        end = min(start + PIECE, q.shape[2])
        scores = q[:, :, start:end] @ k[:, :, :end].transpose(2, 3)
        scores[..., start:] += torch.full((end - start, end - start), -math.inf).triu(1)
        pieces.append(scores.softmax(-1) @ v[:, :, :end])
    return torch.cat(pieces, dim=2)


def log_mass_of_first(q, k):
    """The logarithm of the attention that each position but the first gives to token 0: [batch, head, position]."""
    length = q.shape[2]
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    return (scores[..., 0] - scores.masked_fill(later, -math.inf).logsumexp(-1))[..., 1:]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, queries, keys = CONFIG["hidden_size"], CONFIG["num_attention_heads"] * CONFIG["head_dim"], CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
        self.q_proj, self.o_proj = linear(hidden, queries), linear(queries, hidden)
        self.k_proj, self.v_proj = linear(hidden, keys), linear(hidden, keys)
        self.watched = None  # A slice of the query heads: their attention to the first token is left in first_mass.
        self.first_mass = None

    def forward(self, x, cosine, sine):
        batch, length, _ = x.shape
        q, k, v = (p(x).view(batch, length, -1, CONFIG["head_dim"]).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        group = CONFIG["num_attention_heads"] // CONFIG["num_key_value_heads"]
        k, v = (t.repeat_interleave(group, dim=1) for t in (turn(k, cosine, sine), v))
        q = turn(q, cosine, sine)
        if self.watched is not None:
            self.first_mass = log_mass_of_first(q[:, self.watched], k[:, self.watched])
        out = attend(q, k, v)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, inner), linear(hidden, inner), linear(inner, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn, self.mlp = Attention(), FeedForward()

    def forward(self, x, cosine, sine):
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = Norm()
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * len(self.layers)) if into_stream else 1))

    def forward(self, ids, positions=None):
        width = CONFIG["head_dim"]
        positions = torch.arange(ids.shape[1]) if positions is None else positions
        frequency = CONFIG["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        angle = torch.outer(positions.float(), frequency)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, angle.cos(), angle.sin())
        return self.norm(x) @ self.embed_tokens.weight.T


# ---- training --------------------------------------------------------------------------------------------------------------

def save(model, folder):
    header, data, offset = {}, [], 0
    for name, weight in model.state_dict().items():
        raw = weight.half().contiguous().numpy().tobytes()
        header["model." + name] = {"dtype": "F16", "shape": list(weight.shape), "data_offsets": [offset, offset + len(raw)]}
        data.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    torch.save(model.state_dict(), folder / "checkpoint.pt")


def stretched(length, longest):
    """Positions that leap up to three times, so that short texts teach the distances of long ones (after Ruoss et al. 2023)."""
    positions = torch.arange(length)
    room = longest - length
    for _ in range(random.randint(1, 3)):
        leap = random.randint(0, max(0, room))
        positions[random.randrange(1, length):] += leap
        room -= leap
    return positions


def loss_of(model, examples, length, batch, longest):
    rows, masks = zip(*(examples.draw(length) for _ in range(batch)))
    ids, answers = torch.tensor(rows), torch.tensor(masks).float()[:, 1:]
    positions = stretched(length, longest) if random.random() < 0.5 and longest > length else None
    each = F.cross_entropy(model(ids, positions)[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(batch, -1)
    # A row's answers together weigh as much as half its text, up to thirty times a token.
    weight = 1 + answers * (0.5 * length / answers.sum(1, keepdim=True).clamp(min=1)).clamp(max=30)
    return (each * weight).sum() / weight.sum(), (each * answers).sum().item() / max(1.0, answers.sum().item())


@torch.no_grad()
def evaluate(model, examples, length, rounds=4):
    """Recall of eight questions after the text, and perplexity, on what was held out; the training's own draws are not disturbed."""
    state = random.getstate()
    random.seed(99)
    right = total = 0
    for _ in range(rounds):
        row, mask = examples.recall(length, max(4, length // 64), questions_at_end=8)
        ids, answer = torch.tensor([row]), torch.tensor(mask).bool()[1:]
        right += (model(ids)[0, :-1].argmax(-1)[answer] == ids[0, 1:][answer]).sum().item()
        total += answer.sum().item()
    ids = torch.tensor([[BOS, *examples.take(length - 1)] for _ in range(rounds)])
    loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    random.setstate(state)
    return f"recall {right / max(1, total):.2f} perplexity {math.exp(loss):.1f} at {length} tokens"


@torch.no_grad()
def sinks(model, held_out, length, rounds=4):
    """The share of attention that positions from 64 on give to token 0 of held-out text, by layer and query head."""
    watched = [layer.self_attn.watched for layer in model.layers]
    for layer in model.layers:
        layer.self_attn.watched = slice(None)
    model(torch.tensor([[BOS, *held_out.take(length - 1)] for _ in range(rounds)]))
    for layer, was in zip(model.layers, watched):
        layer.self_attn.watched = was
    return [[round(m, 2) for m in layer.self_attn.first_mass[:, :, 63:].exp().mean((0, 2)).tolist()] for layer in model.layers]


def train(model, examples, held_out, stages, minutes, peak, folder, sink_weight, longest):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    start, step, reported, smooth = time.time(), 0, 0.0, None
    while (done := (time.time() - start) / (60 * minutes)) < 1:
        _, length, batch = [stage for stage in stages if done >= stage[0]][-1]
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, max((step + 1) / 100, 10 * done)) * (0.05 + 0.475 * (1 + math.cos(math.pi * done)))
        loss, answers = loss_of(model, examples, length, batch, longest)
        if sink_weight:
            # Falls to nothing while the run lasts: what is left at its end is the model's own.
            loss = loss - sink_weight * (1 - done) * torch.stack([layer.self_attn.first_mass.mean() for layer in model.layers[1:]]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        smooth = answers if smooth is None else 0.97 * smooth + 0.03 * answers
        if time.time() - reported > 60:
            reported = time.time()
            print(f"{done:4.0%} step {step} loss {loss.item():.3f} answers {smooth:.3f}", evaluate(model, held_out, max(length, 128), 4 if length < 512 else 1), flush=True)
            save(model, folder)
    save(model, folder)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--minutes", type=float, default=11)
    arguments.add_argument("--stages", choices=STAGES, default="retrieve")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--learning-rate", type=float, default=2e-3)
    arguments.add_argument("--text", nargs="+", choices=["bible", *DICTIONARIES], default=["bible"])
    arguments.add_argument("--held-out", type=float, default=0.03, help="share of the text, from its end, that is not trained on")
    arguments.add_argument("--packed", type=float, default=0.0, help="share of the rows of plain text that are short passages, each begun by BOS")
    arguments.add_argument("--rarest-value", type=int, default=64, help="number of the rarest words that no fact states")
    arguments.add_argument("--sinks", type=float, default=0.0, help="weight of a loss that draws every second head, from layer 1 on, to the first token")
    arguments.add_argument("--longest", type=int, default=0, help="half of the batches have positions that leap, up to this many; none unless given")
    for option, entry in SHAPE.items():
        arguments.add_argument("--" + option.replace("_", "-"), type=int, help=f"{entry}, {CONFIG[entry]} unless given")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    shape = given.out / "config.json"
    CONFIG.update(json.loads(shape.read_text()) if shape.exists() else {})
    CONFIG.update({entry: getattr(given, option) for option, entry in SHAPE.items() if getattr(given, option)})
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    random.seed(1)

    text = read_text(given.text)
    known = (given.out / "merges.txt").exists()
    tokenizer = Tokenizer.load(given.out) if known else Tokenizer.learn(text, CONFIG["vocab_size"])
    tokenizer.save(given.out)
    ids = tokenizer.encode(text)
    split = int(len(ids) * (1 - given.held_out))
    letters = {letter: byte for byte, letter in Tokenizer.LETTERS.items()}
    spelled = {i: token for token, i in tokenizer.ids.items()}
    rest = bytes(letters[c] for i in ids[split:] for c in spelled[i])
    (given.out / "document.txt").write_bytes(rest)

    model = Decoder()
    checkpoint = given.out / "checkpoint.pt"
    if checkpoint.exists():
        model.load_state_dict(torch.load(checkpoint))
    text_share, copy_share, stages = STAGES[given.stages]
    examples = Examples(tokenizer, ids[:split], text_share, copy_share, given.packed, given.rarest_value)
    # Which words serve as keys follows from all of the text, not from the little that was held out.
    held_out = Examples(tokenizer, ids, text_share, copy_share, given.packed, given.rarest_value)
    examples.keys, examples.values = held_out.keys, held_out.values
    held_out.ids = ids[split:]
    if given.sinks:
        for layer in model.layers[1:]:
            layer.self_attn.watched = slice(0, None, 2)
    train(model, examples, held_out, stages, given.minutes, given.learning_rate, given.out, given.sinks, given.longest)
    for length in (256, 512, 1024, 2048):
        print(evaluate(model, held_out, length, rounds=8))
    for layer, masses in enumerate(sinks(model, held_out, 1024)):
        print(f"layer {layer}: attention to the first token, by head:", *masses)


if __name__ == "__main__":
    main()
