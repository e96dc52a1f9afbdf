"""What a surface looks like where parts differ in colour: its vertices' colours, and the few that recur. Called by
`photo.colors`, `photo.texture`, `transfer` and `labelling`."""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Shaped

UNSEEN = 0.5
"""How far colours that no picture shows are trusted: the colour field's guess."""
_COLORS = 8
"""Recurring colours of an object, at most; 5 to 16 are alike."""
_LIKE = 6.0
"""CIELAB units between colours that count as alike."""
_LIGHTNESS = 0.5
"""Weight of lightness against hue, as light and shade change it."""
_COMMON = 0.02
"""Share of a part that is taken to look like the whole object, so that no colour is impossible."""


@dataclass(frozen=True)
class Clusters:
    """Recurring colours of an object.

    Attributes:
        member: how much each vertex belongs to each of them; rows add up to 1.
        trust: in each vertex's colour, 0 to 1.
    """

    member: Float[np.ndarray, "vertices clusters"]
    trust: Float[np.ndarray, " vertices"]

    def likeliness(self, parts: Float[np.ndarray, "vertices parts"]) -> Float[np.ndarray, "vertices parts"]:
        """How often each part wears the colour of each vertex, to the power of the trust in it.

        Args:
            parts: share of each part in each vertex, which says whose colours are whose.
        """
        trusted = self.member * self.trust[:, None]
        worn = parts.T @ trusted + _COMMON * trusted.sum(axis=0)
        palette = worn / worn.sum(axis=1, keepdims=True)
        return (self.member @ palette.T) ** self.trust[:, None]


@dataclass(frozen=True)
class SurfaceColors:
    """Colours of a mesh's vertices.

    Attributes:
        rgb: sRGB, 0 to 255.
        known: 0 where the colour field guessed them, up to 1 where a picture shows them.
    """

    rgb: Float[np.ndarray, "vertices 3"]
    known: Float[np.ndarray, " vertices"]

    @classmethod
    def guessed(cls, rgb: Shaped[np.ndarray, "vertices 3"] | None) -> "SurfaceColors | None":
        """Colours of which no picture is known, such as a mesh file's; None where there are none."""
        return None if rgb is None else cls(np.asarray(rgb, dtype=np.float64), np.zeros(len(rgb)))

    @cached_property
    def clusters(self) -> Clusters | None:
        """Its recurring colours, by k-means in CIELAB; None where all is of one colour."""
        from scipy.cluster.vq import kmeans2
        from skimage.color import rgb2lab

        lab = rgb2lab(np.clip(self.rgb, 0, 255) / 255) * [_LIGHTNESS, 1, 1]
        trust = np.maximum(self.known, UNSEEN)
        different = len(np.unique(np.round(lab), axis=0))
        if different < 2:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a centre that no vertex is nearest to stays where it is, and does no harm
            centers, _ = kmeans2(lab, min(_COLORS, different), minit="++", rng=0)
        square = np.square(lab[:, None] - centers).sum(axis=2)
        member = np.exp((square.min(axis=1, keepdims=True) - square) / (2 * _LIKE**2))
        return Clusters(member / member.sum(axis=1, keepdims=True), trust)
