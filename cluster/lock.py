"""Writes the packages of the image with their SHA-256, from constraints.txt and one package index.

Run it where the image's wheels fit: Linux on x86-64, Python 3.11, pip 25 or newer.

python cluster/lock.py                       # requirements.lock and torch-cuda.lock
python cluster/lock.py --torch-index URL     # torch-cpu.lock, from the index of torch's CPU builds
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
EXTRAS = "train,serve,baselines,mlflow,optuna"
OF_TORCH = re.compile(r"torch|triton|(cuda|nvidia)-.*")
"""Names of torch and of the CUDA packages that its default build brings."""


def resolve(*requirements: str) -> dict[str, str]:
    """What pip would install, as lines of a lock by normalised name.

    Raises:
        SystemExit: a package is no wheel of an index, so that others could not fetch it.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
            *("--only-binary", ":all:", "--report", "-"),
            *("--constraint", str(FOLDER.parent / "constraints.txt"), *requirements),
        ],
        check=True,
        stdout=subprocess.PIPE,
    )
    lines = {}
    for found in json.loads(done.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", found["metadata"]["name"]).lower()
        origin = found["download_info"]
        if name == "homnet":
            continue
        if not origin["url"].startswith("https://"):
            sys.exit(f"{name} comes from {origin['url']}; let pip use a package index only")
        sha256 = origin["archive_info"]["hashes"]["sha256"]
        lines[name] = f"{name}=={found['metadata']['version']} --hash=sha256:{sha256}"
    return lines


def write(name: str, lines: Sequence[str]) -> None:
    """Writes a lock, one package a line, in alphabetical order."""
    FOLDER.joinpath(name).write_text("".join(f"{line}\n" for line in sorted(lines)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-index")
    index = parser.parse_args().torch_index
    if index:
        write("torch-cpu.lock", list(resolve("--no-deps", "--index-url", index, "torch").values()))
    else:
        every = resolve(f"{FOLDER.parent}[{EXTRAS}]", "build", "hatchling")
        for file, of_torch in (("torch-cuda.lock", True), ("requirements.lock", False)):
            write(file, [v for k, v in every.items() if bool(OF_TORCH.fullmatch(k)) == of_torch])
