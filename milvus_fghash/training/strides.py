"""Convolutions without their strides, for stages that keep the size of their input."""

from __future__ import annotations

from torch import nn


def remove_strides(stage: nn.Module) -> None:
    """Give every convolution of stride 2 in a stage the stride 1, with an output as large as its input."""
    for parent in list(stage.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                setattr(parent, name, _unstrided(child))


def _unstrided(conv: nn.Conv2d) -> nn.Module:
    """The same convolution with stride 1 and an output as large as its input."""
    side = conv.kernel_size[0]
    twin = nn.Conv2d(conv.in_channels, conv.out_channels, side, groups=conv.groups, bias=conv.bias is not None)
    twin.load_state_dict(conv.state_dict())
    before, after = (side - 1) // 2, side // 2
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), twin)
