#!/usr/bin/env python3
"""Readers of documents that no package of the distribution has.

    readers.py setup DIR    makes a virtual environment with pykickstart (ksvalidator), unless it is there
"""

import os
import subprocess
import sys

PACKAGES = ["pykickstart>=3.52,<4"]


def fail(text):
    sys.exit(f"readers.py: {text}")


def setup(directory):
    done = os.path.join(directory, "complete")
    if os.path.exists(done):
        return
    # Its own interpreter, not a shim that looks at the directory it is called in.
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", directory], capture_output=True, text=True)
    if made.returncode != 0:
        fail(f"cannot make a virtual environment; install python3-venv: {made.stdout}{made.stderr}")
    pip = [os.path.join(directory, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    got = subprocess.run(pip + PACKAGES, capture_output=True, text=True)
    if got.returncode != 0:
        fail(f"cannot install {' '.join(PACKAGES)} from the package index (is there a network?): {got.stderr}")
    open(done, "w").close()


if sys.argv[1:2] == ["setup"] and len(sys.argv) == 3:
    setup(sys.argv[2])
else:
    fail("wanted: setup DIR")
