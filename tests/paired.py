"""A network that the package does not have: one more entry, and no other change.

Its subsampling maps come in pairs, as LeNet-4's; it has another connection table, maps that are
shared by two kernels, a pooling with an activation of its own, and a squashed output.
"""

from dataclasses import dataclass

from lenet.networks.architecture import (
    NETWORKS,
    Architecture,
    Convolution,
    FullConnection,
    Options,
    Pooling,
    Preparation,
    Squashing,
)

TABLE = tuple(((i, (i + 1) % 8, (i + 3) % 8),) for i in range(8)) + ((tuple(range(8)),),) * 4


@dataclass(frozen=True, kw_only=True)
class Paired(Options):
    """4 maps, 8 in pairs, 12 by the table, 12 halved, 40 units, 10 squashed scores."""

    def architecture(self, in_channels: int = 1, classes: int = 10) -> Architecture:
        squash = "scaled-tanh"
        c1 = Convolution("C1", (in_channels, 32, 32), 4, 5, (0.2, 0.2), squash=squash)
        pairs = (0, 0, 1, 1, 2, 2, 3, 3)
        s2 = Pooling("S2", c1.output_shape, "average", squash, bound=0.5, sources=pairs)
        c3 = Convolution("C3", s2.output_shape, 12, 5, (0.2, 0.2), groups=TABLE)
        s4 = Pooling("S4", c3.output_shape, "max")
        tanh = Squashing("S4_tanh", s4.output_shape, "tanh")
        f5 = FullConnection("F5", s4.output_shape, 40, (0.1, 0.1), squash)
        output = FullConnection("scores", f5.output_shape, classes, (0.3, 0.3), "sigmoid")
        preparation = Preparation(in_channels, 32, -0.1, 1.175)
        return Architecture(self, preparation, (c1, s2, c3, s4, tanh, f5, output))


NETWORKS["Paired"] = Paired
