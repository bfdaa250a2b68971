"""torch.hub: `torch.hub.load(REPOSITORY, "mnist")` gives a trained network as an nn.Module.

The package itself must be installed, with its extra `torch`.
"""

from functools import partial

import lenet
from lenet.networks.checkpoint import pretrained_names

dependencies = ["lenet", "torch"]

LeNet, LeNet5, LeNet5s = lenet.LeNet, lenet.LeNet5, lenet.LeNet5s
LeNet1989, LeNet1, LeNet4 = lenet.LeNet1989, lenet.LeNet1, lenet.LeNet4
globals().update({name.replace("-", "_"): partial(lenet.load, name) for name in pretrained_names()})
