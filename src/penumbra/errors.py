"""The one error type that users are meant to read."""

from __future__ import annotations

from pathlib import Path


class PenumbraError(Exception):
    """A fault in the user's input or surroundings, told without a stack trace.

    Parameters
    ----------
    problem : what is wrong, in one sentence.
    file : the file or folder it was found in, where there is one.
    case : the case it concerns, where there is one.
    cure : what to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        case: str | None = None,
        cure: str | None = None,
    ) -> None:
        self.problem, self.file, self.case, self.cure = problem, file, case, cure
        lines = [problem]
        if file is not None:
            lines.append(f"  file: {file}")
        if case is not None:
            lines.append(f"  case: {case}")
        if cure is not None:
            lines.append(f"  cure: {cure}")
        super().__init__("\n".join(lines))
