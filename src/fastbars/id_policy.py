"""IdPolicy: what the trade ids of a feed are, and what can be known from them.

Users give one of the names in `Ids`; it is turned into an IdPolicy once, and no other code reads the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fastbars.bars import STATUSES, BarStatus

Ids = Literal["contiguous", "sequenced", "unique", "none", "sampled"]


@dataclass(frozen=True, slots=True)
class IdPolicy:
    """What the trade ids of a feed allow to know.

    Attributes:
        name: as users spell it.
        numbered: they are numbers that rise by one from row to row: a ledger follows them, which orders trades, drops
            what comes twice and shows what is missing.
        proves: every trade has such a number, so that bars are proven whole; else the exchange numbers its messages
            so, apart from its trades.
        deduplicates: a trade that comes twice is dropped, by the ledger or by the reader of the trades.
        best: status of a bar of which nothing is known to be wrong.
    """

    name: Ids
    numbered: bool
    proves: bool
    deduplicates: bool
    best: BarStatus

    @property
    def counts_messages(self) -> bool:
        """Whether the numbers are those of messages, and not of trades."""
        return self.numbered and not self.proves

    @property
    def only_unique(self) -> bool:
        """Whether the ids tell trades apart and no more: those seen are remembered, so that none counts twice."""
        return self.deduplicates and not self.numbered

    @property
    def statuses(self) -> tuple[BarStatus, ...]:
        """What the kernel's numbers of a status stand for.

        The kernel knows whether ids prove something; the policy knows what bars are at best where they do not.
        """
        if self.numbered:
            return STATUSES
        return tuple(self.best if status is BarStatus.UNVERIFIABLE else status for status in STATUSES)

    @staticmethod
    def of(ids: Ids) -> IdPolicy:
        """The policy of this name. Raises ValueError: there is none."""
        policy = _POLICIES.get(ids)
        if policy is None:
            raise ValueError(f"ids {ids!r} is not one of {', '.join(get_args(Ids))}")
        return policy


_POLICIES = {
    policy.name: policy
    for policy in (
        #        name          numbered  proves  deduplicates  best
        IdPolicy("contiguous", True,     True,   True,         BarStatus.COMPLETE),
        IdPolicy("sequenced",  True,     False,  True,         BarStatus.UNVERIFIABLE),
        IdPolicy("unique",     False,    False,  True,         BarStatus.UNVERIFIABLE),
        IdPolicy("none",       False,    False,  False,        BarStatus.UNVERIFIABLE),
        IdPolicy("sampled",    False,    False,  False,        BarStatus.SAMPLED),
    )
}  # fmt: skip
