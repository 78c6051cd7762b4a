"""Retrieval texts: pseudo-English filler with planted facts, votes and questions about them.

Training draws names and filler words that evaluation never uses, and the other way round: a name of three
syllables is held out when the sum of their indices is a multiple of 10, so is a filler word of two or more.
"""
import numpy as np

SYLLABLES = [c + v for c in "bcdfghjklmnpqrstvwxz" for v in "aeiou"]
OPERATIONS = {"+": lambda a, b: (a + b) % 10, "|": max}


def filler_words(rng, count, held_out):
    """`count` words; those of 2 and more syllables are all held out, or none is."""
    lengths = rng.choice([1, 2, 3, 4], size=count, p=[0.2, 0.4, 0.3, 0.1])
    syllables = rng.integers(0, 100, size=(count, 4))
    residues = np.zeros(count, int) if held_out else rng.integers(1, 10, size=count)
    before = np.where(np.arange(4) < (lengths - 1)[:, None], syllables, 0).sum(axis=1)
    last = 10 * rng.integers(0, 10, size=count) + (residues - before) % 10
    last = np.where(lengths == 1, syllables[:, 0], last)
    syllables[np.arange(count), lengths - 1] = last
    endings = np.where(rng.random(count) < 0.15, rng.integers(0, 5, size=count), 5)
    ends = ["n", "r", "s", "l", "t", ""]
    return ["".join(SYLLABLES[s] for s in row[:n]) + ends[e]
            for row, n, e in zip(syllables.tolist(), lengths.tolist(), endings.tolist())]


class Filler:
    """A long piece of filler that texts take slices from, at word boundaries."""

    def __init__(self, rng, words, held_out):
        drawn = filler_words(rng, words, held_out)
        at = 0
        while at < words:
            at += int(rng.integers(6, 15))
            if at <= words:
                drawn[at - 1] += "."
        lengths = np.array([len(w) + 1 for w in drawn])
        self.text = " ".join(drawn) + " "
        self.starts = np.concatenate([[0], np.cumsum(lengths)])

    def words(self, rng, count):
        i = int(rng.integers(0, len(self.starts) - count - 1))
        return self.text[self.starts[i]:self.starts[i + count]]

    def boundaries(self, rng, size):
        """About `size` bytes, cut at the front, and where words start in them."""
        end = int(rng.integers(np.searchsorted(self.starts, size) + 1, len(self.starts)))
        first = self.starts[end] - size
        inside = self.starts[np.searchsorted(self.starts, first):end + 1] - first
        return self.text[first:first + size], inside


def names(rng, count, held_out, simple=0.0):
    """`count` distinct names; a part of them, `simple`, of one syllable said three times."""
    found = []
    while len(found) < count:
        s = rng.integers(0, 100, size=3)
        if rng.random() < simple:
            s[:] = s[0]
        if held_out:
            s[2] = s[2] // 10 * 10 + (-(s[0] + s[1])) % 10
        elif s.sum() % 10 == 0:
            continue
        name = "".join(SYLLABLES[i] for i in s)
        if name not in found:
            found.append(name)
    return found


def digits(rng):
    return "%05d" % int(rng.integers(0, 100000))


def combine(operation, a, b):
    return "".join(str(OPERATIONS[operation](int(x), int(y))) for x, y in zip(a, b))


def vote_digits(rng, votes):
    """Ten of sixteen votes for one digit (or as large a part), at most a quarter for any other."""
    winner, leading = int(rng.integers(0, 10)), int(np.ceil(votes * 0.6))
    most = max(1, votes // 4)
    others = [d for d in range(10) if d != winner for _ in range(most)]
    rest = rng.choice(others, size=votes - leading, replace=False).tolist()
    return winner, rng.permutation([winner] * leading + rest).tolist()


# --- evaluation ---------------------------------------------------------------------------------------------


def evaluation_text(rng, filler, task, length, question):
    """(text without its question, [(question, answer)]); a question's text has exactly `length` bytes, of which
    a few are taken off so that questions fall at every alignment to the page."""
    length -= question * 7 % 64
    if task == "votes":
        known = names(rng, 4, True)
        drawn = [vote_digits(rng, 16) for _ in known]
        items = [f"({n}:{d})" for n, (_, votes) in zip(known, drawn) for d in votes]
        asked = [(f"({n}:", f"{winner})") for n, (winner, _) in zip(known, drawn)]
        items = rng.permutation(items).tolist()
    else:
        known = names(rng, 1 if task == "passkey" else 8, True)
        values = [digits(rng) for _ in known]
        items = [f"[{n}={v}]" for n, v in zip(known, values)]
        asked = [(f"[{n}=", v + "]") for n, v in zip(known, values)]
        if task == "pair":
            pairs = [rng.permutation(8)[:2] for _ in range(8)]
            asked = [(f"[{known[i]}|{known[j]}=", combine("|", values[i], values[j]) + "]") for i, j in pairs]
    size = length - len(asked[0][0]) - sum(len(i) + 1 for i in items)
    text, starts = filler.boundaries(rng, size)
    if task == "passkey":
        # Stratified: question i of a set lies in the i-th of ten depths.
        depths = [(question % 10 + rng.random()) / 10 * size]
        places = [int(starts[min(np.searchsorted(starts, d), len(starts) - 1)]) for d in depths]
    else:
        places = sorted(int(p) for p in rng.choice(starts, size=len(items), replace=len(items) > len(starts)))
    pieces, at = [], 0
    for place, item in zip(places, items):
        pieces += [text[at:place], item, " "]
        at = place
    return "".join(pieces) + text[at:], asked


# --- training -----------------------------------------------------------------------------------------------

KINDS = ["fact", "+", "|", "vote", "seen"]
PLAIN = 0.1  # what a byte of filler counts in the loss; a byte that nothing foretells counts 0
FIRST = 4.0  # an answer's first digit; the later ones and the closing mark by the mix
NAME = 0.7  # letters of a name that was seen before: what follows its first syllable

MIX = {
    "dense": 0.7,  # share of sequences with little filler
    "ask": 0.55,  # share of questions among the items
    "pair": 0.35,  # share of questions about two facts
    "sum": 0.0,  # share of sums among those
    "votes": 0.25,  # share of sequences with votes
    "simple": 0.0,  # share of names of one syllable said three times
    "span": 65536,  # positions
    "dilution": 96,  # what a key of filler far away counts, at 512 tokens
    "later": 3.0, "pair_later": 2.0, "closing": 0.3,  # weights in the loss
}


class Sequence:
    """A training sequence as it grows: bytes, what each is to be followed by, how much that counts, its item."""

    def __init__(self, length):
        self.length, self.parts, self.size = length, [], 0
        self.weights = np.full(length + 4096, PLAIN, np.float32)
        self.targets = {}
        self.kinds = {}
        self.items = []

    def add(self, text):
        self.parts.append(text)
        self.size += len(text)

    def item(self, text, first, weights, label=None, kind=None):
        """An item whose digits start at `first`; the loss at the byte before each counts by `weights`."""
        start = self.size
        self.add(text + " ")
        self.items.append((start, start + len(text)))
        self.weights[start:start + len(text)] = 0
        at = start + first - 1
        self.weights[at:at + len(weights)] = weights
        if kind:
            for name in range(start, at, 7):
                self.weights[name + 2:name + 6] = NAME
        if label is not None:
            self.targets[at] = ord(label)
        if kind:
            self.kinds[at] = KINDS.index(kind) + 1

    def full(self):
        return self.size > self.length


def answer_loss(mix, later):
    return [FIRST] + [mix[later]] * 4 + [mix["closing"]]


def facts_sequence(rng, filler, length, mix):
    """Facts and questions about them, mixed, with little or much filler."""
    s = Sequence(length)
    dense = rng.random() < mix["dense"]
    mean = rng.uniform(0, 2) if dense else rng.uniform(3, 12)
    most = int(rng.integers(3, 13)) if length <= 1024 else int(rng.integers(4, 25))
    pool = names(rng, most, False, mix["simple"])
    values = {}
    ask, pair = mix["ask"], mix["pair"]
    while not s.full():
        s.add(filler.words(rng, int(rng.geometric(1 / (1 + mean)))))
        known = list(values)
        draw = rng.random()
        if known and (len(known) == most or draw < ask):
            if len(known) > 1 and rng.random() < pair:
                i, j = rng.permutation(len(known))[:2]
                a, b = known[i], known[j]
                op = "+" if rng.random() < mix["sum"] else "|"
                s.item(f"[{a}{op}{b}={combine(op, values[a], values[b])}]", 15,
                       answer_loss(mix, "pair_later"), kind=op)
            else:
                name = known[int(rng.integers(0, len(known)))]
                s.item(f"[{name}={values[name]}]", 8, answer_loss(mix, "later"), kind="fact")
        else:
            name = pool[len(known)]
            values[name] = digits(rng)
            s.item(f"[{name}={values[name]}]", 8, [0] * 5 + [mix["closing"]])
    return s


def votes_sequence(rng, filler, length, mix):
    """Votes for up to four names, all mixed, then a question about each; a leading digit is the label early on."""
    s = Sequence(length)
    room = length // 14
    count = int(rng.integers(2, 5))
    votes = int(rng.integers(5, 17))
    while count * (votes + 1) > room:
        if count > 2 and rng.random() < 0.5:
            count -= 1
        else:
            votes -= 1
    pool = names(rng, count, False, mix["simple"])
    ballot = []
    winners = {}
    for name in pool:
        winners[name], drawn = vote_digits(rng, votes)
        ballot += [(name, str(d)) for d in drawn]
    ballot = [ballot[i] for i in rng.permutation(len(ballot))]
    spare = length - 11 * (len(ballot) + count)
    mean = max(0.0, spare / 6.5 / (len(ballot) + count) * rng.uniform(0.6, 1.0))
    tally = {name: [0] * 10 for name in pool}
    for name, digit in ballot:
        s.add(filler.words(rng, int(rng.poisson(mean))))
        t = tally[name]
        top = max(t)
        leads = top >= 2 and t.count(top) == 1
        s.item(f"({name}:{digit})", 8, [1.0 if leads else 0, mix["closing"]], str(t.index(top)) if leads else None,
               "seen" if sum(t) else None)
        t[int(digit)] += 1
    order = rng.permutation(count)
    while not s.full():
        for i in order:
            if s.full():
                break
            s.add(filler.words(rng, 1 + int(rng.poisson(mean))))
            s.item(f"({pool[i]}:{winners[pool[i]]})", 8, [FIRST, mix["closing"]],
                   kind="vote")
    return s


def positions(rng, length, span):
    """Chunks whose positions skip forward until they span up to `span`; also where each token's chunk starts."""
    count = int(rng.integers(1, 2 + length // 64)) if rng.random() < 0.5 else int(rng.integers(1, 5))
    cuts = np.sort(rng.choice(np.arange(8, length - 8), size=count - 1, replace=False))
    reach = length * (span / length) ** rng.random()
    gaps = rng.dirichlet(np.full(max(count - 1, 1), 0.5)) * (reach - length)
    skip = np.zeros(length, np.int64)
    start = np.zeros(length, np.int32)
    for cut, gap in zip(cuts, gaps):
        skip[cut:] += int(gap)
        start[cut:] = cut
    return np.arange(length) + skip, start


def training_batch(rng, filler, count, length, mix, hide):
    """`count` sequences as arrays. With `hide`, near_bias and far_bias keep items from all but themselves."""
    shape = (count, length)
    batch = {"tokens": np.zeros(shape, np.int64), "targets": np.zeros(shape, np.int32),
             "weights": np.zeros(shape, np.float32), "positions": np.zeros(shape, np.int64),
             "chunk_start": np.zeros(shape, np.int32), "item_start": np.zeros(shape, np.int32),
             "far": np.zeros(shape, np.float32), "in_item": np.zeros(shape, bool),
             "kinds": np.zeros(shape, np.int8)}
    for b in range(count):
        kind = votes_sequence if rng.random() < mix["votes"] else facts_sequence
        s = kind(rng, filler, length, mix)
        text = np.frombuffer("".join(s.parts).encode("ascii"), np.uint8)[:length + 1]
        batch["tokens"][b] = text[:length]
        batch["targets"][b] = text[1:]
        batch["weights"][b] = s.weights[:length]
        for at, label in s.targets.items():
            if at < length:
                batch["targets"][b, at] = label
        for at, kind in s.kinds.items():
            if at < length:
                batch["kinds"][b, at] = kind
        batch["positions"][b], batch["chunk_start"][b] = positions(rng, length, mix["span"])
        batch["item_start"][b] = np.arange(1, length + 1)
        for start, end in s.items:
            batch["item_start"][b, start:end] = start
            batch["in_item"][b, start:end] = True
        w = 1.0 if rng.random() < 0.25 else (mix["dilution"] * 512 / length) ** rng.random()
        batch["far"][b] = np.where(batch["in_item"][b], 0, max(0.0, np.log(w)))
    hidden = np.where(batch["in_item"], np.float32(-1e30), np.float32(0)) if hide else np.zeros(shape, np.float32)
    batch["far_hidden"], batch["near_hidden"] = (batch["far"] + hidden).astype(np.float32), hidden
    batch["near"] = np.zeros(shape, np.float32)
    return batch
