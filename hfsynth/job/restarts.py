"""How many deaths of an engine in a row are too many. Knows nothing of engines, journals or processes."""

from __future__ import annotations


class Restarts:
    """Count the deaths since an engine last answered a document, and say when there were more than `limit`.

    A death that leaves fewer chains under suspicion than any before it does not count: it brings the hunt for the
    document that kills nearer to its end, which comes after as many such deaths as the number in flight can be halved.
    A document that is given up ends its hunt, and the next begins anew; but of these, too, there may be no more than
    `limit` without one that is answered in between, or an engine that dies of everything would fail all documents.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._fewest: int | None = None
        self._given_up = 0
        self.in_a_row = 0

    @property
    def are_exhausted(self) -> bool:
        """Whether the engine should not be started any more."""
        return max(self.in_a_row, self._given_up) > self._limit

    def died(self, in_flight: int) -> None:
        """Note a death with so many chains in flight; a load that failed has none."""
        narrowed = self._fewest is not None and 0 < in_flight < self._fewest
        if in_flight and (self._fewest is None or narrowed):
            self._fewest = in_flight
        self.in_a_row += not narrowed

    def gave_up(self) -> None:
        """Note that a document has been given up: the engine is known to die of it."""
        self._fewest = None
        self.in_a_row = 0
        self._given_up += 1

    def answered(self) -> None:
        """Note that a document has been answered."""
        self._fewest = None
        self.in_a_row = self._given_up = 0
