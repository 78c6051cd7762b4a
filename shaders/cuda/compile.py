#!/usr/bin/env python3
"""compile.py ARRAY RESOURCES DEPFILE COMMAND...: runs nvcc, writes its fatbin as C writes words in an
array, and what ptxas says of registers and spills, which tests/cuda/spills.py reads."""
import os
import subprocess
import sys
import tempfile

array, resources, depfile, *command = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    fatbin = os.path.join(folder, "kernels.fatbin")
    # Names of the target in the dependencies are the array's.
    command += ["-Xptxas", "-v", "-MD", "-MF", depfile, "-MT", array, "-o", fatbin]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        sys.exit(done.returncode)
    with open(fatbin, "rb") as file:
        data = file.read()
notes = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("ptxas", "    "))]
with open(resources, "w", encoding="utf-8") as output:
    output.writelines(line + "\n" for line in notes)
for line in (done.stdout + done.stderr).splitlines():
    if line not in notes and line.strip():
        print(line, file=sys.stderr)  # warnings
# Words, which a C compiler reads faster than bytes; their order is that of every host that CUDA has.
words = memoryview(data + bytes(-len(data) % 32)).cast("Q")
with open(array, "w", encoding="ascii") as output:
    for at in range(0, len(words), 4):
        output.write(",".join(f"{word:#x}" for word in words[at:at + 4]) + ",\n")
