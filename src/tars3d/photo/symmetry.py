"""Which categories have a mirror plane: textures and outlines of one side are then those of the other."""

SYMMETRIC = frozenset(
    {"airplane", "bench", "bird", "bus", "car", "chair", "lamp", "motorbike", "sofa", "table", "train"}
)
"""Categories whose objects mirror at x = 0, closely enough to colour and shape one side by the other."""


def mirrors(category: str) -> bool:
    """Whether its objects mirror at x = 0."""
    return category.lower() in SYMMETRIC
