#!/usr/bin/env python3
"""The study of docs/accuracy.md: what skim evaluate finds on a model, as JSON, tables and plots.

    accuracy.py run SKIM MODEL DIR [--tasks ...] [--lengths ...] [--questions N] [--jobs N]
    accuracy.py write DIR [--page docs/accuracy.md]

`run` writes one JSON file a task and length to DIR; files that are there are kept, so that it can be stopped and
started again. `write` makes DIR/README.md with every table, the plots (SVG), and puts the blocks of the page that
lie between <!-- NAME --> and <!-- end --> anew. Needs nothing but Python."""

import argparse
import json
import math
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LENGTHS = [4096, 8192, 16384, 32768]
BUDGETS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
COMBINES = ["max", "mean", "softmax-max", "softmax-mean"]

# What is measured of a task. A text is read once for all of it.
STUDIES = {
    "facts": {"--mode": "dense,head,group,sinks,oracle", "--combine": ",".join(COMBINES), "--bounds": "minmax,meanstd",
              "--bounds-type": "native,i8", "--dense-layers": "0,2"},
    "passkey": {"--mode": "dense,head,group,sinks,oracle", "--combine": "softmax-max", "--dense-layers": "0,2"},
    "pair": {"--mode": "dense,head,group,sinks,oracle", "--combine": ",".join(COMBINES), "--dense-layers": "0,2"},
    "votes": {"--mode": "dense,head,group,sinks,oracle", "--combine": ",".join(COMBINES), "--dense-layers": "0,2"},
}
# Studies of one length, for what would double all others: the pages that are always read, the size of a page, and
# what is left when the pages of the answer are out of reach.
SIDE = {
    "recent": ("facts", 8192, {"--mode": "head,group", "--combine": ",".join(COMBINES), "--dense-layers": "0,2",
                               "--recent-pages": "1,2,4"}),
    "page-8": ("facts", 8192, {"--mode": "head,group,oracle", "--dense-layers": "0,2", "--page-size": "8"}),
    "page-32": ("facts", 8192, {"--mode": "head,group,oracle", "--dense-layers": "0,2", "--page-size": "32"}),
    "page-64": ("facts", 8192, {"--mode": "head,group,oracle", "--dense-layers": "0,2", "--page-size": "64"}),
    **{f"masked-{task}": (task, 8192, {"--mode": "dense,head,group,sinks,oracle", "--dense-layers": "0,2",
                                       "--mask-needle": None}) for task in STUDIES},
}


def arguments(options):
    return [word for name, value in options.items() for word in ([name] if value is None else [name, str(value)])]


def jobs(options):
    """File -> what to run, the longest first."""
    found = {}
    for length in sorted(options.lengths, reverse=True):
        for task in options.tasks:
            found[f"{task}-{length}.json"] = {"--task": task, "--length": length, **STUDIES[task]}
    if not options.no_side:
        for name, (task, length, study) in SIDE.items():
            if task in options.tasks:
                found[f"side-{name}.json"] = {"--task": task, "--length": length, **study}
    for job in found.values():
        job.update({"--budget": ",".join(map(str, BUDGETS)), "--questions": options.questions, "--threads": 1})
    return found


def run_job(options, name, study):
    path = options.folder / name
    if path.exists():
        return f"{name}: kept"
    start = time.monotonic()
    command = [options.skim, "evaluate", "--model", options.model, "--device", options.device, "--json",
               *arguments(study)]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        return f"{name}: {result.stderr.decode().strip()}"
    partial = path.with_suffix(".part")
    partial.write_text(pack(json.loads(result.stdout)))
    partial.rename(path)
    return f"{name}: {time.monotonic() - start:.0f} s"


def pack(cells):
    """One line a cell."""
    return "[\n" + ",\n".join(json.dumps(cell) for cell in cells) + "\n]\n"


def run(options):
    options.folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        pending = [pool.submit(run_job, options, name, study) for name, study in jobs(options).items()]
        for job in pending:
            print(job.result(), flush=True)


# --- tables

def describe(cell):
    """A cell's way to choose pages, in words; the page size is not part of it."""
    words = [cell["mode"]]
    if cell["mode"] == "group":
        words.append(cell["combine"])
    if cell["bounds"] == "meanstd":
        words.append("meanstd")
    if cell["bounds_type"] == "i8":
        words.append("i8")
    return " ".join(words)


ORDER = ["dense", "oracle", "head", *(f"group {how}" for how in COMBINES)]


def rank(name):
    base = re.sub(r" (meanstd|i8)", "", name)
    return (len(ORDER) + 1 if base == "sinks" else ORDER.index(base), name.count(" "), name)


def load(folder):
    """Name of the study -> cells. A study of one length keeps its name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        found[path.stem] = json.loads(path.read_text())
    return found


def percent(value, digits=0):
    return f"{100 * value:.{digits}f}"


def accuracy(cell):
    return f"{percent(cell['accuracy'])} ({percent(cell['accuracy_low'])}–{percent(cell['accuracy_high'])})"


def mass(cell):
    return f"{percent(cell['mass_kept'])} / {percent(cell['top10_recall'])}"


def rows_of(cells, layers, extra=()):
    """name -> budget -> cell, of the cells with so many dense layers. extra: further keys that set rows apart."""
    rows = {}
    for cell in cells:
        if cell["dense_layers"] in (None, layers):
            name = describe(cell)
            for key, word in extra:
                if cell[key] is not None and cell["mode"] in ("head", "group", "oracle"):
                    name += f", {word} {cell[key]}"
            rows.setdefault(name, {})[cell["budget"]] = cell
    return rows


def table(rows, show, budgets=BUDGETS, names=None):
    names = sorted(rows, key=lambda name: rank(name.split(",")[0])) if names is None else names
    lines = ["| pages | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 1) + "|"]
    for name in names:
        if name not in rows:
            continue
        shown = [show(rows[name][budget]) if budget in rows[name] else "" for budget in budgets]
        if name == "dense": # it has no budget: its figure stands first, whichever budgets were measured
            shown = [next((cell for cell in shown if cell), "")] + [""] * (len(budgets) - 1)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


PLAIN = ["dense", "oracle", "head", *(f"group {how}" for how in COMBINES), "sinks"]
BOUNDS = ["head", "head i8", "head meanstd", "head meanstd i8", "group softmax-max", "group softmax-max i8",
          "group softmax-max meanstd", "group softmax-max meanstd i8"]


def blocks(studies):
    """Name -> table, for pages."""
    made = {}
    for name, cells in studies.items():
        layers = sorted({cell["dense_layers"] for cell in cells if cell["dense_layers"] is not None})
        for count in layers:
            extra = [("recent_pages", "recent")] if name == "side-recent" else []
            rows = rows_of(cells, count, extra)
            key = f"{name} layers {count}"
            made[key] = table(rows, accuracy, BUDGETS[:6] if extra else BUDGETS, None if extra else PLAIN)
            made[f"{key} mass"] = table(rows, mass, names=None if extra else PLAIN)
            if any("meanstd" in row for row in rows):
                made[f"{key} bounds"] = table(rows, accuracy, names=BOUNDS)
                made[f"{key} bounds mass"] = table(rows, mass, names=BOUNDS)
                made[f"{key} all"] = table(rows, accuracy)
    for count in (0, 2):
        for task in STUDIES:
            made[f"{task} layers {count} lengths"] = lengths_table(studies, task, count)
        made[f"page sizes layers {count}"] = page_table(studies, count)
    made["masked"] = masked_table(studies)
    made["paper"] = paper_table(studies)
    return {name: text for name, text in made.items() if text}


def lengths_table(studies, task, layers, budgets=(64, 128, 256, 512, 1024)):
    """Every length below the other, for a few budgets."""
    lines = ["| tokens | pages | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 2) + "|"]
    for length in LENGTHS:
        rows = rows_of(studies.get(f"{task}-{length}", []), layers)
        for name in PLAIN:
            if name in rows:
                shown = [accuracy(rows[name][budget]) for budget in budgets]
                if name == "dense":
                    shown = [shown[0]] + [""] * (len(budgets) - 1)
                lines.append(f"| {length} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def page_table(studies, layers, budgets=(64, 128, 256, 512, 1024)):
    lines = ["| page | pages | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 2) + "|"]
    for size, name in ((8, "side-page-8"), (16, "facts-8192"), (32, "side-page-32"), (64, "side-page-64")):
        rows = rows_of(studies.get(name, []), layers)
        for mode in ("oracle", "head", "group softmax-max"):
            if mode in rows:
                lines.append(f"| {size} | {mode} | " + " | ".join(accuracy(rows[mode][b]) for b in budgets) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def masked_table(studies):
    """The most that any budget and number of dense layers gets right when its pages are out of reach."""
    modes = ["dense", "oracle", "head", "group", "sinks"]
    lines = ["| task | dense, not masked | " + " | ".join(modes) + " |", "|---" * (len(modes) + 2) + "|"]
    for task in STUDIES:
        cells = studies.get(f"side-masked-{task}", [])
        plain = [cell for cell in studies.get(f"{task}-8192", []) if cell["mode"] == "dense"]
        if cells:
            best = [max((cell for cell in cells if cell["mode"] == mode), key=lambda cell: cell["accuracy"])
                    for mode in modes]
            lines.append(f"| {task} | {accuracy(plain[0]) if plain else ''} | " + " | ".join(map(accuracy, best)) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


# Figures of Quest's paper (Tang et al., ICML 2024): passkey retrieval at 10,000 tokens, LongChat-7B.
PAPER = {"Quest (paper)": ["65", "99", "99", "99", "100"], "H2O (paper)": ["≤ 3"] * 5, "TOVA (paper)": ["≤ 8"] * 5,
         "StreamingLLM (paper)": ["≤ 5"] * 5}


def paper_table(studies, budgets=(32, 64, 128, 256, 512)):
    cells = studies.get("passkey-8192")
    if not cells:
        return ""
    lines = ["| | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(values) + " |" for name, values in PAPER.items()]
    for layers in (0, 2):
        rows = rows_of(cells, layers)
        for mode in ("head", "group softmax-max", "sinks"):
            lines.append(f"| {mode}, {layers} dense layers | " + " | ".join(accuracy(rows[mode][b]) for b in budgets)
                         + " |")
    return "\n".join(lines)


# --- plots

COLOURS = {"dense": "#888888", "oracle": "#000000", "head": "#1f6fd0", "group max": "#c97b1f", "group mean": "#e3b505",
           "group softmax-max": "#1d8f4e", "group softmax-mean": "#7bc043", "sinks": "#d03b3b",
           "head i8": "#1f6fd0", "head meanstd": "#8e5fd0", "head meanstd i8": "#8e5fd0",
           "group softmax-max i8": "#1d8f4e", "group softmax-max meanstd": "#c2559d",
           "group softmax-max meanstd i8": "#c2559d"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 190, 46, 34, 22


class Panel:
    def __init__(self, index, title):
        self.left = LEFT + index * (WIDTH + GAP)
        self.parts = [f'<rect x="{self.left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>',
                      f'<text x="{self.left + WIDTH / 2}" y="{TOP - 8}" text-anchor="middle">{title}</text>']
        for share in range(0, 101, 25):
            y = self.y(share / 100)
            self.parts.append(f'<path d="M{self.left} {y}h{WIDTH}" stroke="#e4e4e4"/>')
            if index == 0:
                self.parts.append(f'<text x="{self.left - 6}" y="{y + 4}" text-anchor="end">{share} %</text>')
        for budget in BUDGETS:
            self.parts.append(f'<text x="{self.x(budget):.1f}" y="{TOP + HEIGHT + 14}" text-anchor="middle" '
                              f'font-size="8">{budget}</text>')

    def x(self, budget):
        low, high = math.log2(BUDGETS[0]), math.log2(BUDGETS[-1])
        return self.left + 12 + (WIDTH - 24) * (math.log2(budget) - low) / (high - low)

    @staticmethod
    def y(share):
        return round(TOP + HEIGHT - 8 - (HEIGHT - 16) * share, 1)

    def line(self, name, cells, key):
        dash = ' stroke-dasharray="4 3"' if name.endswith("i8") or name == "dense" else ""
        colour = COLOURS[name]
        points = [(self.x(budget), cells[budget]) for budget in BUDGETS if budget in cells]
        path = "L".join(f"{x:.1f} {self.y(cell[key])}" for x, cell in points)
        if key == "accuracy" and name != "dense":
            for x, cell in points:
                self.parts.append(f'<path d="M{x:.1f} {self.y(cell["accuracy_low"])}V{self.y(cell["accuracy_high"])}" '
                                  f'stroke="{colour}" opacity=".35"/>')
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')


def plot(path, title, panels, names, key):
    """panels: title -> rows."""
    width = LEFT + len(panels) * (WIDTH + GAP)
    height = TOP + HEIGHT + 58
    parts = []
    for index, (heading, rows) in enumerate(panels.items()):
        panel = Panel(index, heading)
        for name in names:
            if name in rows:
                panel.line(name, rows[name], key)
        parts += panel.parts
    x = LEFT
    for name in names:
        if any(name in rows for rows in panels.values()):
            dash = ' stroke-dasharray="4 3"' if name.endswith("i8") or name == "dense" else ""
            parts.append(f'<path d="M{x} {height - 14}h18" stroke="{COLOURS[name]}" stroke-width="2"{dash}/>'
                         f'<text x="{x + 22}" y="{height - 10}">{name}</text>')
            x += 34 + 6.2 * len(name)
    parts.append(f'<text x="{LEFT}" y="14" font-weight="bold">{title}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP + HEIGHT + 30}">budget, tokens a list</text>')
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {max(width, x):.0f} {height}" '
                    f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>\n'
                    + "\n".join(parts) + "\n</svg>\n")


def plots(folder, studies):
    made = []
    for task in STUDIES:
        for layers in (0, 2):
            panels = {f"{length} tokens": rows_of(studies[f"{task}-{length}"], layers)
                      for length in LENGTHS if f"{task}-{length}" in studies}
            if not panels:
                continue
            sets = [("accuracy", PLAIN, "accuracy", "right answers"), ("mass", PLAIN, "mass_kept", "attention kept"),
                    ("recall", PLAIN, "top10_recall", "of the ten highest tokens")]
            if task == "facts":
                sets.append(("bounds", BOUNDS, "accuracy", "right answers, by kind of bounds"))
            for kind, names, key, words in sets:
                name = f"{task}-{layers}-{kind}.svg"
                plot(folder / name, f"{task}, {layers} dense layers: {words}", panels, names, key)
                made.append(name)
    return made


# --- pages

def fill_page(path, made):
    """Puts each block between <!-- NAME --> and <!-- end --> anew."""
    text = path.read_text()
    for name in re.findall(r"<!-- ([^>]*?) -->\n", text):
        if name == "end":
            continue
        if name not in made:
            print(f"accuracy.py: there is no table '{name}' yet", file=sys.stderr)
            continue
        text = re.sub(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)",
                      lambda match, block=made[name]: f"{match[1]}\n{block}\n\n{match[2]}", text, flags=re.S)
    path.write_text(text)


def write(options):
    studies = load(options.folder)
    if not studies:
        sys.exit(f"accuracy.py: no JSON in {options.folder}")
    made = blocks(studies)
    lines = ["# Accuracy against the budget: every table", "",
             "Made by `tools/accuracy.py write` from the JSON beside it; [docs/accuracy.md](../../accuracy.md) says what it "
             "means. Right answers in percent with intervals of 95 %; in tables of `mass`, the share of the attention kept "
             "and of its ten highest tokens found, in percent.", ""]
    for name in plots(options.folder, studies):
        lines += [f"![{name[:-4]}]({name})", ""]
    for name, block in made.items():
        lines += [f"## {name}", "", block, ""]
    (options.folder / "README.md").write_text("\n".join(lines))
    if options.page:
        fill_page(options.page, made)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.add_argument("skim")
    runs.add_argument("model")
    runs.add_argument("folder", type=Path)
    runs.add_argument("--tasks", nargs="+", choices=STUDIES, default=list(STUDIES))
    runs.add_argument("--lengths", nargs="*", type=int, default=LENGTHS)
    runs.add_argument("--questions", type=int, default=100)
    runs.add_argument("--jobs", type=int, default=2)
    runs.add_argument("--device", default="cpu")
    runs.add_argument("--no-side", action="store_true", help="without the studies of one length")
    runs.set_defaults(call=run)
    writes = commands.add_parser("write")
    writes.add_argument("folder", type=Path)
    writes.add_argument("--page", type=Path)
    writes.set_defaults(call=write)
    options = parser.parse_args()
    options.call(options)


if __name__ == "__main__":
    main()
