"""Random numbers of training: what is random at step t is a function of (seed, stream, t), so a resumed run draws what
an undisturbed one draws.

`data` and `training` call this. Python's hash mixes the integers; it is the same in every process (only that of text is
salted). Runs and packed collections that exist were drawn with this hash and these numbers, so both stay as they are.
"""

from enum import IntEnum

import torch


class Stream(IntEnum):
    """Draws that share a seed and nothing else."""

    EPOCH = 1
    """The order in which an epoch encodes pictures; by epoch."""
    BATCH = 2
    """Other views, mirroring, pixels and hull points of a batch; by step."""
    STAGE = 3
    """What a stage's losses draw besides its batch; by step."""
    HULL = 4
    """Points around an object's visual hull; by object."""
    SHARDS = 5
    """The order in which an epoch opens shards; by epoch."""
    CODED = 6
    """The shards whose pictures make the mean code."""
    RECALL = 7
    """Which pictures of earlier steps the camera stage learns from once more; by step."""


def torch_generator(seed: int, stream: Stream, *key: int) -> torch.Generator:
    """PyTorch's random numbers of a stream, on the host; `key` says which of its draws, e.g. the step."""
    return torch.Generator().manual_seed(hash((seed, int(stream), *key)) & 0x7FFFFFFF)


def derived_seed(seed: int, *key: int) -> int:
    """The seed of a part that draws by itself: a shard, a window of a stream."""
    return hash((seed, *key))
