"""Layers without their strides, for stages that keep the size of their input."""

from __future__ import annotations

from torch import nn


def remove_strides(stage: nn.Module) -> None:
    """Let every layer of stride 2 in a stage give an output as large as its input.

    Convolutions get the stride 1; averages over 2 x 2 pixels, before the shortcuts of some networks, are left out.
    """
    for parent in list(stage.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                setattr(parent, name, _unstrided(child))
            elif isinstance(child, nn.AvgPool2d) and child.stride in (2, (2, 2)):
                setattr(parent, name, nn.Identity())


def _unstrided(conv: nn.Conv2d) -> nn.Module:
    """The same convolution with stride 1 and an output as large as its input."""
    side = conv.kernel_size[0]
    twin = nn.Conv2d(conv.in_channels, conv.out_channels, side, groups=conv.groups, bias=conv.bias is not None)
    twin.load_state_dict(conv.state_dict())
    before, after = (side - 1) // 2, side // 2
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), twin)
