"""Names of the figures that two audits are compared by.

In a record a name is a text such as "candidate I2T R@1". This module alone writes and reads that text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from koda.records.base import NamedByText
from koda.typing import ROLES, SIDES, Role, Side

Task = Literal["I2T", "T2I", "zero-shot"]
TASKS: tuple[Task, ...] = ("I2T", "T2I", "zero-shot")
_TEXT = re.compile(
    rf"(?P<side>{'|'.join(SIDES)})\.found"
    rf"|(?P<role>{'|'.join(ROLES)}) (?P<task>{'|'.join(TASKS)}) (?P<depth>R@[0-9]+|top-[0-9]+)"
    r"|(?P<policy>by\.(?s:.+)\.(?:retrieval|zero_shot)_drop|[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)+)",  # a column is any text
    re.ASCII,
)


@dataclass(frozen=True)
class FigureName(NamedByText):
    """A figure of the policy, the number of directions of a side, or what one model reaches in a task.

    Args:
        policy: a figure that rules may limit, by its name there; one that this koda does not know is read as well.
        side: the figure is the number of directions found on it.
        role, task, depth: of retrieval, image to text or text to image, at "R@1" and the like; or of zero-shot
            accuracy at "top-1" and the like.

    >>> str(FigureName(role="candidate", task="I2T", depth="R@1"))
    'candidate I2T R@1'
    >>> FigureName.parse("lost.found").side, FigureName.parse("lost.max_share").policy
    ('lost', 'lost.max_share')
    """

    what: ClassVar[str] = "figure"
    pattern: ClassVar[re.Pattern[str]] = _TEXT
    examples: ClassVar[str] = (
        "'lost.max_share', 'lost.found', 'candidate I2T R@1' and 'baseline zero-shot top-1' are such names"
    )

    policy: str | None = None
    side: Side | None = None
    role: Role | None = None
    task: Task | None = None
    depth: str | None = None

    def __str__(self) -> str:
        if self.side is not None:
            return f"{self.side}.found"
        return self.policy or f"{self.role} {self.task} {self.depth}"

    @classmethod
    def parse(cls, text: str) -> FigureName:
        """Read what :meth:`__str__` writes.

        Raises:
            ValueError: a text that names no figure.
        """
        parts = cls._parts(text)
        return cls(
            policy=parts["policy"],
            side=cast("Side | None", parts["side"]),
            role=cast("Role | None", parts["role"]),
            task=cast("Task | None", parts["task"]),
            depth=parts["depth"],
        )
