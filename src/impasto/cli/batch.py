"""Render many pictures in sequence; a picture that fails is noted, and the others are rendered."""

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
from ..errors import ImpastoError, InputError, lacks_memory, out_of_memory
from ..files import shown
from ..targets import Content, Job
from ..watch import UNPAINTED
from .console import is_own, is_unread, say, unexpected
from .running import Work, running

if TYPE_CHECKING:
    from ..images import Picture
    from ..methods import Step
    from ..session import Session

__all__ = ["Batch", "is_done", "settings_of", "standard_input"]


class Batch:
    """A batch of pictures to render.

    Args:
        total: number of pictures; if it is 1, an error is raised, not noted.
        saving: how the pictures are written.
        preview: iterations between previews of the picture so far; None writes none.
        checkpoints: keep a checkpoint beside each picture, see :class:`impasto.Session`.
        resume: go on from one that an interrupted run has left.

    Attributes:
        failed: number of pictures that failed.
        written: number of pictures that were written.
        faults: the distinct error messages; text only, because errors keep tensors alive.
    """

    def __init__(
        self,
        total: int,
        saving: Saving,
        preview: int | None,
        *,
        checkpoints: bool = False,
        resume: bool = True,
    ) -> None:
        self.total, self.saving, self.preview = total, saving, preview
        self.checkpoints, self.resume = checkpoints, resume
        self.failed, self.written, self.faults = 0, 0, list[str]()
        self._read: dict[Content, Picture] = {}

    @contextmanager
    def noting(self, name: object, count: int = 1) -> Iterator[None]:
        """A context that notes an error about ``name``, which stands for ``count`` pictures."""
        try:
            yield
        except Exception as error:
            if self.total == 1 or is_unread(error):
                raise
            if isinstance(error, ImpastoError) or not lacks_memory(error):
                expected = isinstance(error, (ImpastoError, OSError))
                text = str(error) if expected else unexpected(error)
            else:
                text = str(out_of_memory())
            self.failed += count
            text = text if str(name) in text else f"{name}: {text}"
            if text not in self.faults:
                self.faults.append(text)

    def report(self) -> None:
        """Print the failures."""
        if self.failed:
            say.print(f"impasto: {self.failed} of {self.total} failed:", style="red")
            for number, fault in enumerate(self.faults, 1):
                say.print(f"{number:3}. {fault}")

    def writable(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs whose targets can be written, as far as can be checked in advance.

        Raises InputError if there are none: then the target's name or folder is invalid.
        """
        from ..images import check_output

        writable, faults = [], []
        for job in jobs:
            try:
                if job.target is not None:
                    check_output(job.target, depth=self.saving.depth)
                writable.append(job)
            except ImpastoError as error:
                faults.append((job, error))
        if not writable:
            raise faults[0][1]
        for job, fault in faults:
            with self.noting(job.target):
                raise fault
        return writable

    def render(self, jobs: Sequence[Job], sessions: Callable[[tuple[str, ...]], Session]) -> bool:
        """Render every picture; returns whether Ctrl-C stopped the work.

        Args:
            jobs: the jobs, with those of the same styles next to each other.
            sessions: styles -> the session that renders them.
        """
        number = 0
        with running("") as work:
            for styles, group in groupby(jobs, lambda job: job.styles):
                style_jobs = list(group)
                session = None
                with self.noting(", ".join(map(shown, styles)), len(style_jobs)):
                    session = sessions(styles)
                if session is None:
                    number += len(style_jobs)
                    continue
                for job in style_jobs:
                    with self.noting(job.content):
                        self._render_one(job, session, work, number, len(jobs))
                    number += 1
                    if work.interrupted():
                        return True
        return False

    def _render_one(self, job: Job, session: Session, work: Work, number: int, count: int) -> None:
        from ..images import check_output

        position = f"{number + 1}/{count}" if count > 1 else ""
        work.show(number, count, position, str(job.content))
        content = self._content(job.content, session)
        size = session.size_of(content)
        if job.target is not None:
            transparent = content.alpha is not None
            check_output(job.target, size, alpha=transparent, depth=self.saving.depth)

        def on_step(step: Step) -> bool:
            text = "  ".join(filter(None, [position, _progress_of(step)]))
            due = self.preview and step.iterations and step.iteration % self.preview == 0
            if due and job.target:
                self._write_preview(job.target, step, size, content, session.controls.background)
            return work.show(number + step.share, count, text)

        checkpoint = self._checkpoint(job.target)
        with _warnings_said(f"impasto: {job.content}"):
            result = session(content, on_step, checkpoint=checkpoint)
        if not result.painted:
            say.print(f"impasto: {f'{job.content}: ' if self.total > 1 else ''}{UNPAINTED}")
            return
        self.written += 1
        if job.target is None:
            sys.stdout.buffer.write(result.to_bytes(**self.saving.keywords))
            sys.stdout.buffer.flush()
        else:
            result.save(job.target, **self.saving.keywords, overwrite=True)
            cancelled = ", cancelled" if result.stopped == "cancelled" else ""
            cancelled += "; the same command goes on" if cancelled and result.checkpoints else ""
            say.print(f"{shown(job.target)}  ({result.settings['seconds']} s{cancelled})")

    def _checkpoint(self, target: Path | None) -> Path | None:
        """Where the work on a picture is kept: beside it."""
        from ..methods.checkpoint import checkpoint_of, is_checkpoint, names_of

        if target is None or not self.checkpoints:
            return None
        checkpoint = checkpoint_of(target)
        for stale in () if self.resume else filter(is_checkpoint, names_of(checkpoint)):
            stale.unlink()
        return checkpoint

    def _content(self, content: Content, session: Session) -> Picture:
        """The content's picture; the latest is cached for the styles that follow."""
        if content not in self._read:
            self._read.clear()
            self._read[content] = session.read(
                standard_input() if content.path is None else content.path
            )
        return self._read[content]

    def _write_preview(
        self, target: Path, step: Step, size: tuple[int, int], content: Picture, background: str
    ) -> None:
        """Write the picture so far in the size, format and metadata of the result."""
        from ..images import resize, write

        write(
            *(target, resize(step.picture(), size), content.alpha),
            settings={"preview": step.iteration},
            background=background,
            source=content.metadata,
            **self.saving.keywords,
        )


@contextmanager
def _warnings_said(label: str) -> Iterator[None]:
    """A context in which impasto's own warnings are lines, said at once."""

    def say_own(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        *more: object,
        **rest: object,
    ) -> None:
        if is_own(filename):
            say.print(f"{label}: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say_own
        yield


def _progress_of(step: Step) -> str:
    """What the bar says of a step."""
    size = f"{step.size[1]}x{step.size[0]}"
    if step.iterations:
        return f"{step.iteration}/{step.iterations}  {size}  loss {step.loss:.3f}"
    return f"{size}  {step.stage}"


def settings_of(path: Path) -> dict[str, Any]:
    """The settings in a picture's metadata; empty if impasto did not write it."""
    from ..images import read_settings

    try:
        return read_settings(path)
    except ImpastoError:
        return {}


def is_done(target: Path | None) -> bool:
    """Whether the file of a completed result exists."""
    if target is None or not target.is_file() or not target.stat().st_size:
        return False
    settings = settings_of(target)
    # Version 0.1 recorded true for a picture that was cancelled.
    return "preview" not in settings and settings.get("stopped") not in ("cancelled", True)


class _Input(io.BytesIO):
    """The bytes of standard input, with a name for messages."""

    name = "standard input"


@cache
def standard_input() -> _Input:
    """The contents of standard input, read once."""
    if sys.stdin is None:
        raise InputError("-: there is no standard input; name a file")
    if sys.stdin.isatty():
        raise InputError("-: standard input is a terminal; name a file, or add < PHOTO.jpg")
    data = sys.stdin.buffer.read()
    if not data:
        raise InputError("-: standard input is empty; send a picture")
    return _Input(data)
