"""What training on private records gives away, as opacus accounts it: Renyi divergences of the sampled Gaussian mechanism.

opacus is imported here alone, and when it is asked: importing it takes seconds.
"""

from __future__ import annotations

from functools import cache


@cache
def _cost(noise: float, rate: float) -> tuple[list[float], object]:
    """(orders, Renyi divergence of one update at each of them)."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis import rdp

    orders = RDPAccountant.DEFAULT_ALPHAS
    return orders, rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)


def spent(noise: float, rate: float, updates: int, delta: float) -> float:
    """epsilon at `delta` after so many updates, each on records that came with chance `rate`, with noise of `noise` clips (> 0)."""
    from opacus.accountants.analysis import rdp

    orders, cost = _cost(noise, rate)
    return float(rdp.get_privacy_spent(orders=orders, rdp=cost * updates, delta=delta)[0])


def noise_for(epsilon: float, rate: float, updates: int, delta: float) -> float:
    """The least noise, in clips, that spends at most `epsilon` over all updates; opacus finds it to .01 of epsilon, from below."""
    from opacus.accountants.utils import get_noise_multiplier

    return get_noise_multiplier(target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=updates, accountant="rdp")
