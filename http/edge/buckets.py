"""Token buckets: how often each client may ask, with bursts."""

from __future__ import annotations

from typing import Final

# Full buckets are the same as none, so what is left of quiet clients can be dropped.
_KEPT_MAX: Final = 16_384


class Buckets:
    """Token buckets by key: each refills by `per_s` tokens a second up to `burst`, and is full at first."""

    def __init__(self, per_s: float, burst: float, kept_max: int = _KEPT_MAX) -> None:
        self._per_s = per_s
        self._burst = burst
        self._kept_max = kept_max
        self._tokens: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def left(self, key: str, now_s: float) -> float:
        """Return the tokens in a bucket; fewer than none if it was charged for more than it had."""
        kept = self._tokens.get(key)
        if kept is None:
            return self._burst
        return min(self._burst, kept[0] + (now_s - kept[1]) * self._per_s)

    def charge(self, key: str, now_s: float, tokens: float) -> None:
        """Take tokens out, also more than there are: the work is done, and the next request waits for it."""
        if key not in self._tokens and len(self._tokens) >= self._kept_max:
            self._drop(now_s)
        self._tokens[key] = max(self.left(key, now_s) - tokens, -self._burst), now_s

    def wait_s(self, key: str, now_s: float) -> float:
        """Return the seconds until there is a token again; zero if there is one."""
        return max(0.0, (1.0 - self.left(key, now_s)) / self._per_s)

    def tidy(self, now_s: float) -> None:
        """Drop the full buckets.

        Left where they are, those of a flood would hold pieces of its memory all over the heap.
        """
        self._tokens = {key: kept for key, kept in self._tokens.items() if self.left(key, now_s) < self._burst}

    def _drop(self, now_s: float) -> None:
        """Drop the full buckets; if there are none, the half that was charged least lately."""
        self.tidy(now_s)
        if len(self._tokens) >= self._kept_max:
            oldest = sorted(self._tokens, key=lambda key: self._tokens[key][1])[: self._kept_max // 2]
            for key in oldest:
                del self._tokens[key]
