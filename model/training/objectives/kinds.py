# SPDX-License-Identifier: Apache-2.0
"""What can be said of every objective without JAX: its unit, and what it asks of a network."""

from typing import Literal, NamedTuple

from model.field_checks import is_real, shown
from model.network.config import ModelConfig


class Kind(NamedTuple):
    """An objective in words.

    Attributes:
      unit: what a loss is per.
      is_bound: whether it bounds the loss from above, and is not itself that.
      is_causal: whether a position sees only what is before it.
      has_mask: whether tokens are hidden behind one more id, the last of the network.
      has_source: whether a window begins with a source, which an encoder reads.
      has_class: whether a window is the class of an image and then this, seen in patches.
    """

    unit: Literal["token", "masked token", "target token", "image"]
    is_bound: bool
    is_causal: bool
    has_mask: bool
    has_source: bool = False
    has_class: bool = False


# By name, which is that of the file beside this one that computes it.
KINDS = {
    "next_token": Kind(unit="token", is_bound=False, is_causal=True, has_mask=False),
    "masked": Kind(unit="masked token", is_bound=False, is_causal=False, has_mask=True),
    "diffusion": Kind(unit="token", is_bound=True, is_causal=False, has_mask=True),
    "translation": Kind(
        unit="target token", is_bound=False, is_causal=True, has_mask=False, has_source=True
    ),
    "classification": Kind(
        unit="image", is_bound=False, is_causal=False, has_mask=False, has_class=True
    ),
}


def check_objective(name: str, mask_ratio: float | None) -> None:
    """Raises ValueError if there is no such objective, or it has no such ratio."""
    if name not in KINDS:
        raise ValueError(f"objective={shown(name)}: must be one of {', '.join(KINDS)}.")
    is_share = is_real(mask_ratio) and 0 < mask_ratio <= 1
    if not (is_share if name == "masked" else mask_ratio is None):
        raise ValueError(
            f"mask_ratio={shown(mask_ratio)} with objective={name!r}: 'masked' needs the share of "
            "tokens that it hides, above 0 and at most 1; for the others it is None."
        )


def check_network(name: str, net: ModelConfig) -> None:
    """Raises ValueError if a network cannot be trained for the objective of this name."""
    if KINDS[name].has_source and net.encoder is None:
        raise ValueError(
            f"objective={name!r} needs an encoder, which reads the source. Give the recipe "
            "shape.encoder, or objective='next_token'."
        )
    if net.encoder is not None and not KINDS[name].has_source:
        raise ValueError(
            f"objective={name!r} has no source, and the network has an encoder, which reads one. "
            "Say objective='translation', or shape.encoder=None."
        )
    if KINDS[name].has_class != (net.patches is not None):
        has = "an image in patches" if net.patches is not None else "no patches"
        raise ValueError(
            f"objective={name!r} with {has}: 'classification' sees images in patches, and nothing "
            "else does. Give the recipe shape.patches for it, or None for the others."
        )
    if KINDS[name].is_causal:
        if ahead := sorted({repr(layer.kind) for layer in net.layers if layer.sees_ahead}):
            raise ValueError(
                f"objective={name!r} asks for what is before a position, and {', '.join(ahead)} "
                "sees what is behind it. Put it into an encoder, or choose a causal mixer."
            )
        return
    blind = sorted({repr(layer.kind) for layer in net.layers if not layer.sees_both_sides})
    if blind:
        raise ValueError(
            f"objective={name!r} asks for both sides of a position, and {', '.join(blind)} sees "
            "only what is before it. Choose attention without a window, or objective='next_token'."
        )
    if net.separator is not None:
        raise ValueError(
            f"objective={name!r} hides separators, too: documents cannot be told apart. Say "
            "documents_apart=False, or objective='next_token'."
        )
