"""How full the KV cache of the vLLM that samples is, as far as this process sees it. For the log and timing.json."""

from __future__ import annotations


class Cache:
    """most       largest share of it that was in use, 0 to 1; 0: nobody looked while it was
    preempted  requests that had to give up their place in it and were computed anew
    """

    def __init__(self) -> None:
        self.most, self.preempted = 0.0, 0

    def see(self, share: float, preempted: int) -> None:
        """Its share in use now, and requests preempted since it was looked at last."""
        self.most = max(share, self.most)
        self.preempted += preempted


sampling = Cache()
