"""One step of Lightning's DistributedDataParallel in two processes, with the callback; run by ``test_lightning``."""

from __future__ import annotations

import sys
import warnings

import torch

from tests.adapters.reference import parameters
from tests.adapters.test_lightning import Lit, callback, fit


def main(folder):
    """Train and save the parameters."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module = Lit()
    fit(module, callback(), strategy="ddp_fork", devices=2)
    torch.save(parameters(module.net), f"{folder}/parameters.pt")


if __name__ == "__main__":
    main(sys.argv[1])
