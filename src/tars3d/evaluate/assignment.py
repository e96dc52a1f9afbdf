"""One-to-one pairings of two clouds at least total distance: exact for small ones, by auction for large ones. `metrics.emd` calls `assign`."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

ASSIGNMENT_LIMIT = 2048
"""Up to so many points the pairing is exact (scipy's shortest augmenting paths); beyond, it is an auction's."""
AUCTION_EPSILON = 0.0005
"""The mean distance of an auction's pairing is above the least by at most this, in the units of the points."""


def assign(cost: Float[np.ndarray, "n n"]) -> Int[np.ndarray, "n"]:
    """The column of each row."""
    if len(cost) <= ASSIGNMENT_LIMIT:
        return linear_sum_assignment(cost)[1]
    return auction(cost, AUCTION_EPSILON)


def auction(cost: Float[np.ndarray, "n n"], epsilon: float) -> Int[np.ndarray, "n"]:
    """Bertsekas' auction with ε-scaling (Annals of Operations Research 14, 1988): the total is above the least by at most n ε.

    The EMD of Liu et al. (arXiv 1912.00280), whom the paper cites in §4, is found by an auction too. A row bids for its
    cheapest column: as much as makes it no better than the row's second choice, and ε more. The highest bid displaces
    the owner. All rows without a column bid at once. Prices of a coarse round with a large ε start the next, finer one,
    which spares most bids.

    Raises:
        ValueError: a cost is not finite, or ε is too small to be seen beside the costs.
    """
    if not np.isfinite(cost).all():
        raise ValueError("an assignment needs finite costs")
    count, largest = len(cost), float(np.abs(cost).max(initial=0.0))
    if not epsilon > 1e-12 * largest or not epsilon > 0:
        raise ValueError(f"ε = {epsilon} cannot be told from 0 beside costs up to {largest}")
    if count < 2:
        return np.zeros(count, dtype=np.int64)
    # Prices grow to about n ε beyond the costs, so that double precision is needed in them, while the costs need not be.
    price, step = np.zeros(count), max(epsilon, largest / 8)
    while True:
        column = _auction_round(cost, price, step)
        if step <= epsilon:
            return column
        step = max(epsilon, step / 4)


def _auction_round(
    cost: Float[np.ndarray, "n n"], price: Float[np.ndarray, "n"], epsilon: float
) -> Int[np.ndarray, "n"]:
    """Sell every column anew; `price` is raised in place."""
    owner = np.full(len(cost), -1)
    column = np.full(len(cost), -1)
    bidders = np.arange(len(cost))
    while len(bidders):
        total = cost[bidders] + price
        rows = np.arange(len(bidders))
        wanted = total.argmin(axis=1)
        lowest = total[rows, wanted]
        total[rows, wanted] = np.inf
        bid = price[wanted] + (total.min(axis=1) - lowest) + epsilon
        order = np.argsort(bid)
        winner = np.full(len(cost), -1)
        winner[wanted[order]] = order  # of several bids for a column the highest is written last
        sold = np.flatnonzero(winner >= 0)
        new = winner[sold]
        displaced = owner[sold]
        column[displaced[displaced >= 0]] = -1
        owner[sold], column[bidders[new]], price[sold] = bidders[new], sold, bid[new]
        bidders = np.flatnonzero(column < 0)
    return column
