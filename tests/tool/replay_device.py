#!/usr/bin/env python3
"""replay_device.py SKIM TRACE DEVICE: skim replay gives the same on a device as on the CPU: the same pages, but
for scores that rounding alone tells apart, and the same results where the pages are the same."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tensors

ERROR = 1e-5  # of a result's vector, relative to its length


def replay(skim, trace, device, out):
    command = [skim, "replay", trace, "--device", device, "--budget", "64", "--dense-layers", "1", "--disable", "wide",
               "--out", out]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    backend = device.split(":")[0]
    if result.returncode != 0 and f"no {backend} device" in result.stderr and \
            backend not in os.environ.get("SKIM_REQUIRE", "").split(","):
        print(result.stderr)
        sys.exit(77)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {result.stderr}")
    return tensors.read(out)


def rows(tensor):
    _, shape, values = tensor
    width = shape[-1]
    return [values[i:i + width] for i in range(0, len(values), width)]


def main():
    skim, trace, other = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as folder:
        on = {device: replay(skim, trace, device, Path(folder) / f"{device}.safetensors") for device in ("cpu", other)}
    lists = differing = compared = 0
    for name in on["cpu"]:
        if not name.endswith(".pages"):
            continue
        of_layer = name[:-len("pages")]
        vectors = [zip(rows(tensors_of[name]), rows(tensors_of[of_layer + "out"])) for tensors_of in on.values()]
        for (pages, out), (other_pages, other_out) in zip(*vectors):
            lists += 1
            if pages != other_pages:
                differing += 1
                continue
            compared += 1
            length = sum(x * x for x in out) ** 0.5
            distance = sum((x - y) ** 2 for x, y in zip(out, other_out)) ** 0.5
            if not distance <= ERROR * max(length, 1e-6):
                sys.exit(f"{of_layer}out: results are {distance / length:.2g} apart")
    print(f"{lists} lists, {differing} of other pages")
    if compared == 0 or differing > lists / 500:
        sys.exit("too many lists of other pages")


main()
