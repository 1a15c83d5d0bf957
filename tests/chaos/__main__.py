"""Kill a run again and again: `python -m tests.chaos --rounds 100`. Ends with status 0 when every end was that of an undisturbed run."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from tests.chaos.rounds import Undisturbed, kill
from tests.chaos.trial import Trial

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rounds", type=int, default=100, help="how many kills")
parser.add_argument("--seed", type=int, default=0, help="of the moments")
args = parser.parse_args()
folder = Path(tempfile.mkdtemp(prefix="chaos-"))  # stays where a run ends otherwise than it should
undisturbed, trial = Undisturbed.run(folder / "undisturbed"), Trial(folder / "trial")
print(f"undisturbed: {undisturbed.seconds:.0f} s, {sum(undisturbed.changes.values())} changes of files", flush=True)
done = kill(trial, undisturbed, args.rounds, args.seed, lambda text: print(text, flush=True))
print(f"{args.rounds} kills, {done} whole runs: each as undisturbed, and nothing in MLflow lost or doubled")
for each in (undisturbed.trial, trial):
    each.close()
shutil.rmtree(folder)
