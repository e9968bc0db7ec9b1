"""Many pictures, one after another: what fails is noted, and the others are made."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..controls import Saving
from ..errors import InputError, lacks_memory
from ..files import shown
from ..targets import Content, Job
from .console import is_own, is_unread, say, unexpected
from .running import Work, running

if TYPE_CHECKING:
    from ..images import Picture
    from ..methods import Step
    from ..transfer import Transfer

__all__ = ["Batch", "is_done", "settings_of", "standard_input"]


class Batch:
    """Pictures to make.

    Args:
        total: how many; a single one's fault is raised.
        saving: how they are written.
        preview: write the picture so far every so many iterations; None for never.

    Attributes:
        failed: how many could not be made.
        faults: of these, each once, as text, for errors hold on to the tensors.
    """

    def __init__(self, total: int, saving: Saving, preview: int | None) -> None:
        self.total, self.saving, self.preview = total, saving, preview
        self.failed, self.faults = 0, list[str]()
        self._read: dict[Content, Picture] = {}

    @contextmanager
    def noting(self, name: object, count: int = 1) -> Iterator[None]:
        """Note what goes wrong with ``name``, for so many pictures."""
        try:
            yield
        except Exception as error:
            if self.total == 1 or is_unread(error):
                raise
            if lacks_memory(error):
                text = "out of memory; use a smaller --size"
            else:
                known = isinstance(error, (InputError, OSError))
                text = str(error) if known else unexpected(error)
            self.failed += count
            text = text if str(name) in text else f"{name}: {text}"
            if text not in self.faults:
                self.faults.append(text)

    def report(self) -> None:
        """Say what failed."""
        if self.failed:
            say.print(f"impasto: {self.failed} of {self.total} failed:", style="red")
            for number, fault in enumerate(self.faults, 1):
                say.print(f"{number:3}. {fault}")

    def writable(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose results can be written where they belong, as far as is known before.

        Raises InputError if there is none: the fault is of the name or the folder that was given.
        """
        from ..images import check_output

        good, faults = [], []
        for job in jobs:
            try:
                if job.target is not None:
                    check_output(job.target, depth=self.saving.depth)
                good.append(job)
            except InputError as error:
                faults.append((job, error))
        if not good:
            raise faults[0][1]
        for job, fault in faults:
            with self.noting(job.target):
                raise fault
        return good

    def render(self, jobs: Sequence[Job], transfer: Callable[[tuple[str, ...]], Transfer]) -> bool:
        """Make every picture; returns whether Ctrl-C ended the work.

        Args:
            jobs: those with the same styles one after another.
            transfer: gives what renders, for the styles of a job.
        """
        number = 0
        with running("") as work:
            for styles, group in groupby(jobs, lambda job: job.styles):
                same = list(group)
                ready = None
                with self.noting(", ".join(map(shown, styles)), len(same)):
                    ready = transfer(styles)
                if ready is None:
                    number += len(same)
                    continue
                for job in same:
                    with self.noting(job.content):
                        self._one(job, ready, work, number, len(jobs))
                    number += 1
                    if work.interrupted():
                        return True
        return False

    def _one(self, job: Job, ready: Transfer, work: Work, number: int, count: int) -> None:
        from ..images import check_output

        where = f"{number + 1}/{count}" if count > 1 else ""
        work.show(number, count, where, str(job.content))
        content = self._content(job.content, ready)
        size = ready.size_of(content)
        if job.target is not None:
            transparent = content.alpha is not None
            check_output(job.target, size, alpha=transparent, depth=self.saving.depth)

        def on_step(step: Step) -> bool:
            steps = f"{step.iteration}/{step.iterations}  {step.size[1]}x{step.size[0]}"
            words = f"{where}  {steps}  loss {step.loss:.3f}".strip()
            if self.preview and job.target and step.iteration % self.preview == 0:
                self._write_preview(job.target, step, size, content, ready.controls.background)
            return work.show(number + step.share, count, words)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            result = ready(content, on_step)
        if job.target is None:
            sys.stdout.buffer.write(result.encode(**self.saving.record()))
            sys.stdout.buffer.flush()
        else:
            result.save(job.target, **self.saving.record(), overwrite=True)
            say.print(f"{shown(job.target)}  ({result.settings['seconds']} s)")
        for warning in caught:
            if is_own(warning.filename):
                say.print(f"impasto: {job.content}: {warning.message}")

    def _content(self, content: Content, ready: Transfer) -> Picture:
        """Read; never is there more than one, for all styles that follow each other."""
        if content not in self._read:
            self._read.clear()
            self._read[content] = ready.read(
                standard_input() if content.path is None else content.path
            )
        return self._read[content]

    def _write_preview(
        self, target: Path, step: Step, size: tuple[int, int], content: Picture, background: str
    ) -> None:
        """As the result will be, in all but the pixels."""
        from ..images import resize, write

        write(
            *(target, resize(step.picture(), size), content.alpha),
            settings={"preview": step.iteration},
            background=background,
            source=content.metadata,
            **self.saving.record(),
        )


def settings_of(path: Path) -> dict[str, Any]:
    """What a picture says of how it was made; nothing, if impasto did not write it."""
    from ..images import read_settings

    try:
        return read_settings(path)
    except InputError:
        return {}


def is_done(target: Path | None) -> bool:
    """Whether a result is there that was made to its end."""
    if target is None or not target.is_file() or not target.stat().st_size:
        return False
    return not {"preview", "stopped"} & settings_of(target).keys()


class _Sent(io.BytesIO):
    """What came in by standard input."""

    name = "standard input"


@cache
def standard_input() -> _Sent:
    """What standard input holds, read once."""
    if sys.stdin is None:
        raise InputError("-: there is no standard input; name a file")
    if sys.stdin.isatty():
        raise InputError("-: standard input is a terminal; name a file, or add < PHOTO.jpg")
    data = sys.stdin.buffer.read()
    if not data:
        raise InputError("-: standard input is empty; send a picture")
    return _Sent(data)
