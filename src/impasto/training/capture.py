"""A training step as a CUDA graph: launched as one, where the host was what a GPU waited for.

https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. What is captured is what the step did
when it was: tensors stay where they are, shapes stay, and whatever the host decides or draws in the
step is decided once for all. So losses must draw their random numbers on the device, where
``torch.manual_seed`` before every launch gives the numbers that the step would draw by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["Captured"]

WARM = 3  # steps before the capture, in which kernels are chosen and optimisers make their state
REMEDY = "set training.graph to false"

Terms = dict[str, Tensor]


class Captured:
    """``step``, from its fourth call on as a graph.

    Args:
        step: from a batch of tensors, whose shapes are always the same, to terms of a loss; frees
            the gradients before it makes new ones.
        seed: sets torch's random numbers anew for the step that is next.
    """

    def __init__(self, step: Callable[..., Terms], seed: Callable[[], None]) -> None:
        self.step, self.seed = step, seed
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: list[Tensor] = []
        self.terms: Terms = {}

    def __call__(self, *batch: Tensor) -> Terms:
        """One step; the terms are overwritten by the next."""
        self.calls += 1
        if self.calls <= WARM:
            return self._warm(batch)
        if self.graph is None:
            self._capture(batch)
        for static, tensor in zip(self.batch, batch, strict=True):
            static.copy_(tensor)
        self.seed()
        assert self.graph is not None
        self.graph.replay()
        return self.terms

    def _warm(self, batch: Sequence[Tensor]) -> Terms:
        """On a stream of its own, as the capture will be."""
        before = torch.get_rng_state()
        with side_stream():
            terms = self.step(*batch)
        if not torch.equal(before, torch.get_rng_state()):
            raise InputError(
                "this loss draws random numbers on the host, which a CUDA graph would freeze: "
                + REMEDY
            )
        return terms

    def _capture(self, batch: Sequence[Tensor]) -> None:
        """Record the step; nothing is computed yet."""
        self.batch = [tensor.clone() for tensor in batch]
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may ask the GPU for memory meanwhile: they prepare the next batches.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.terms = self.step(*self.batch)
        except RuntimeError as fault:
            reason = " ".join(str(fault).split())[:200]
            raise InputError(
                f"the step cannot be captured as a CUDA graph ({reason}): {REMEDY} and start anew"
            ) from fault
        self.graph = graph


@contextmanager
def side_stream() -> Iterator[None]:
    """Work on another stream, before and after which this one waits."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)
