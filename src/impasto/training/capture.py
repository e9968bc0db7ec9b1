"""A training step as a CUDA graph: one launch, for steps in which the GPU waits for the host.

See https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. A graph replays the captured
kernels: addresses and shapes of tensors are fixed, and so is every value that the host computes or
draws. Losses must therefore draw their random numbers on the device, where ``torch.manual_seed``
before every launch gives the same numbers as without a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import InputError

__all__ = ["Captured"]

WARM_UP = 3  # steps before the capture: they select kernels and create the optimisers' state
REMEDY = "set training.graph to false"

Terms = dict[str, Tensor]


class Captured:
    """``step``, run as a graph from its fourth call on.

    Args:
        step: maps a batch of tensors of constant shapes to the terms of a loss; it must set the
            gradients to None before it computes new ones.
        seed: seeds torch's random generators for the next step.
    """

    def __init__(self, step: Callable[..., Terms], seed: Callable[[], None]) -> None:
        self.step, self.seed = step, seed
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: list[Tensor] = []
        self.terms: Terms = {}

    def __call__(self, *batch: Tensor) -> Terms:
        """Run one step. The next call overwrites the returned terms."""
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._warm_up(batch)
        if self.graph is None:
            self._capture(batch)
        for static, tensor in zip(self.batch, batch, strict=True):
            static.copy_(tensor)
        self.seed()
        assert self.graph is not None
        self.graph.replay()
        return self.terms

    def _warm_up(self, batch: Sequence[Tensor]) -> Terms:
        """Run the step on a side stream, like the capture."""
        host_state = torch.get_rng_state()
        with side_stream():
            terms = self.step(*batch)
        if not torch.equal(host_state, torch.get_rng_state()):
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
            # Other threads prepare the next batches and may allocate GPU memory meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.terms = self.step(*self.batch)
        except RuntimeError as fault:
            reason = " ".join(str(fault).split())[:200]
            raise InputError(
                f"the step cannot be captured as a CUDA graph ({reason}): {REMEDY} and start again"
            ) from fault
        self.graph = graph


@contextmanager
def side_stream() -> Iterator[None]:
    """Work on another stream, synchronised with the current one before and after."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)
