"""IdPolicy: what the trade ids of a feed are, and so what can be known from them.

Users name one of `Ids`; it is read once, into a value that says what to do, and nobody looks at the name again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fastbars.bars import BarStatus

Ids = Literal["contiguous", "sequenced", "unique", "none", "sampled"]


@dataclass(frozen=True, slots=True)
class IdPolicy:
    """What trade ids are good for.

    Attributes:
        name: as users spell it.
        numbered: they are numbers that rise by one from row to row: a ledger follows them, which orders trades, drops
            what comes twice and shows what is missing.
        proves: that every trade has such a number, so that bars are proven whole; else the exchange numbers its
            messages so, beside the ids that it gives trades.
        deduplicates: what comes twice is dropped, by the ledger or by whoever reads the trades.
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

    @staticmethod
    def of(ids: Ids) -> IdPolicy:
        """The policy of this name. Raises ValueError: there is none."""
        policy = _POLICIES.get(ids)
        if policy is None:
            raise ValueError(f"ids {ids!r} is none of {', '.join(get_args(Ids))}")
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
