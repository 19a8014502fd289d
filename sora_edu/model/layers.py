"""What several networks do to a layer when they are built (lesson 08)."""

from torch import nn


def start_at_zero(layer: nn.Linear | nn.Conv3d) -> None:
    """Set weight and bias to zero, so that what the layer adds starts as nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
