import numpy as np
import numpy.typing as npt

class Dram:
    """A memory with channels, banks and a first-ready scheduler; times are in ticks of its command clock."""

    def __init__(
        self,
        organisation: dict[str, int],
        timing: dict[str, int],
        admission: dict[str, int],
        address_map: list[tuple[str, int]],
        streams: int,
    ) -> None: ...
    @property
    def capacity(self) -> int: ...
    @property
    def now(self) -> int: ...
    def reset(self, refresh_phase: int = 0) -> None: ...
    def enqueue(
        self, time: int, addresses: npt.NDArray[np.int64], row_bytes: int, stream: int, write: bool = False
    ) -> int: ...
    def run_until(self, limit: int) -> list[tuple[int, int, int]]: ...
    def counts(self) -> list[tuple[int, int, int]]: ...
