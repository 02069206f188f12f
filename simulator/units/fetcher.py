"""The fetcher: lanes that turn row numbers into addresses, and crossbars to and from the DRAM's channels."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from simulator.settings import Settings

__all__ = ["Fetcher", "FetcherSettings"]


class FetcherSettings(Settings):
    """Lanes and FIFOs between the crossbars."""

    lanes: int = Field(ge=1)
    fifo_depth: int = Field(ge=1)
    word_bytes: int = Field(ge=1)
    in_order: bool = Field(False, description="requests count as finished in the order in which they were issued")


@dataclass(frozen=True, slots=True)
class Fetcher:
    """`lanes` address FIFOs in front of a lanes x channels crossbar that passes one request per channel and cycle.

    The data FIFOs (as many, `fifo_depth` words of `word_bytes`) restore the order of the requests; a burst may be
    issued only if its data have room there, which bounds how far bursts run ahead of the oldest unserved one.
    SpAtten, section IV: 32 lanes, 64 words of 16 bytes.
    """

    settings: FetcherSettings

    def run_ahead_bursts(self, burst_bytes: int) -> int:
        """Bursts that may be under way at a time: lanes x depth x word / burst, at least one per lane."""
        s = self.settings
        return max(s.lanes, s.lanes * s.fifo_depth * s.word_bytes // burst_bytes)

    @staticmethod
    def least_cycles(bursts: int, channels: int) -> int:
        """The crossbar's bound: with one request per channel and cycle, ceil(bursts / channels) cycles."""
        return -(-bursts // channels)
