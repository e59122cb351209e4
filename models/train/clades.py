"""Trains a clade's splice network of two tiers: insect, nematode or plant.

What: the network of `splice_net.py`, narrower in its tower and shorter in reach than the human one:
  introns of these genomes are short, and what tells them from their surroundings lies near.
Data, split, errors: see `clade_data.py`. Labels are annotated sites: the reference networks of the
  human recipe know nothing of these genomes.
How: python clades.py --clade plant --data DIR --out OUT/plant
     python clade_report.py --clade plant --data DIR --checkpoint OUT/plant/splice.pt --out OUT
  Writes splice.pt (checkpoint; the same command resumes) and splice.csv (log: top-k and AUPRC in
  the transcripts of the held-out contigs, both strands).
"""

import os

import numpy as np
import torch

from clade_data import SPECIES, CladeCrops, held_strands
from splice import BATCH, CROP, columns, fit, options, start
from splice_net import score

TRUNK = "16,7,1 16,7,1 16,7,5 16,7,20 16,7,80 16,7,2"
TOWER = "32,13,1@0 32,7,1@6+7 32,9,5@6+8 32,5,20 32,7,60@6+10 32,5,3 32,5,1"
STAGES = {
    "insect": {"steps": 40_000, "lr": 4e-3, "anneal": 0.6, "seed": 1},
    "nematode": {"steps": 40_000, "lr": 4e-3, "anneal": 0.6, "seed": 1},
    "plant": {"steps": 60_000, "lr": 4e-3, "anneal": 0.5, "seed": 1},
}
CROPS = {  # introns of plants vary more, and are not learnt by heart
    "insect": {"real": 0.12, "crossed": 0.5, "errors": 0.7, "power": 2.0},
    "nematode": {"real": 0.12, "crossed": 0.5, "errors": 0.7, "power": 2.0},
    "plant": {"real": 0.2, "crossed": 0.0, "errors": 0.45, "power": 1.5},
}


def main():
    parser = options(__doc__)
    parser.add_argument("--clade", choices=SPECIES, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    stage = STAGES[args.clade]
    torch.manual_seed(stage["seed"])
    os.makedirs(args.out, exist_ok=True)
    crops = CladeCrops(args.data, args.clade, BATCH, CROP, **CROPS[args.clade])
    print(f"{crops.dropped} pieces of held-out places left out", flush=True)
    held = held_strands(args.data, args.clade)
    inside = np.concatenate([s.inside for s in held])
    truth = np.concatenate([s.hard for s in held])[inside] > 0

    def measure(mean):
        return columns(score(mean, [s.bases for s in held])[inside], truth)

    fit(start(TRUNK, TOWER), TRUNK, TOWER, stage, crops, measure, args)


if __name__ == "__main__":
    main()
