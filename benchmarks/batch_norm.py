"""Does a network answer as well as it has learned? Four ways to normalise its validation images.

    python benchmarks/batch_norm.py RUN/last.ckpt --data FOLDER --name ckplus
        --protocol ckplus-random --seed 0

Batch norm keeps running statistics, taken under dropout, and answers with them without dropout.
Where epochs are few batches long they also lag behind the weights. A network that is right with a
batch's own statistics and wrong with the running ones has learned, and its validation does not show
it (Li et al. 2019, "Understanding the disharmony between dropout and batch normalization").
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mien.data import make_splits, read_dataset
from mien.train.checkpoint import load_checkpoint

#: Answers under dropout are drawn so often; the mean counts.
DRAWS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name")
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fold", type=int)
    options = parser.parse_args()
    data = read_dataset(options.data, options.name)
    splits = make_splits(data, options.protocol, seed=options.seed, fold=options.fold)
    val = splits.select(data, "val")
    network = load_checkpoint(options.checkpoint).model
    images, labels = torch.from_numpy(val.images)[:, None] / 255, torch.from_numpy(val.labels)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    for name, kinds in (
        ("as it is used", ()),
        ("under dropout", (_DropoutNd,)),
        ("with the batch's own statistics", (_BatchNorm,)),
        ("with both, as in training", (_DropoutNd, _BatchNorm)),
    ):
        torch.manual_seed(0)
        hits = []
        for _ in range(DRAWS):
            network.load_state_dict(start)
            network.eval()
            for layer in network.modules():
                layer.training = isinstance(layer, kinds)
            with torch.no_grad():
                hits.append((network(images).argmax(1) == labels).float().mean())
        print(f"{name:34} {100 * float(torch.stack(hits).mean()):5.1f} % of {len(val)}")


if __name__ == "__main__":
    main()
