"""How steps are captured, and what their graphs hold. A stand-in for CUDA runs here: tests/cuda has the real one."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor

from lazydiffusion.pipelines import cuda_graphs
from lazydiffusion.pipelines.cuda_graphs import GraphedStep

pytestmark = pytest.mark.unit


class Cuda:
    """The calls of torch.cuda that a capture makes, on numbered streams; 0 is the usual one."""

    def __init__(self) -> None:
        self.current, self.made, self.capturing = 0, 0, False
        self.broken = ""
        """What the end of a capture fails with."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("Stream", "current_stream", "stream", "CUDAGraph"):
            patch.setattr(torch.cuda, name, getattr(self, name))
        for name in ("synchronize", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda: None)
        patch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
        patch.setattr(torch.cuda.graph, "default_capture_stream", None)
        cuda_graphs._captures.cache_clear()

    def Stream(self) -> Stream:  # noqa: N802
        self.made += 1
        return Stream(self.made)

    def current_stream(self) -> Stream:
        return Stream(self.current)

    def stream(self, stream: Stream) -> Using:
        return Using(self, stream.number)

    def CUDAGraph(self) -> Graph:  # noqa: N802
        return Graph(self)


@dataclass(frozen=True)
class Stream:
    number: int

    def wait_stream(self, other: Stream) -> None: ...


class Using:
    """As torch.cuda.StreamContext: a class, so that nothing is put back where nobody leaves it."""

    def __init__(self, cuda: Cuda, number: int):
        self.cuda, self.number = cuda, number

    def __enter__(self) -> None:
        self.before, self.cuda.current = self.cuda.current, self.number

    def __exit__(self, *_: object) -> None:
        self.cuda.current = self.before


class Graph:
    """Captures nothing; a replay changes nothing."""

    def __init__(self, cuda: Cuda):
        self.cuda = cuda

    def capture_begin(self, *pool: Any, **_: Any) -> None:
        self.cuda.capturing = True

    def capture_end(self) -> None:
        self.cuda.capturing = False
        if self.cuda.broken:
            raise RuntimeError(self.cuda.broken)

    def pool(self) -> str:
        return "the pool"

    def replay(self) -> None: ...


@dataclass
class Given:
    value: Tensor


class Watched(GraphedStep[Given]):
    """A step that notes where it runs: the stream, and whether it is captured."""

    def __init__(self, cuda: Cuda):
        super().__init__()
        self.cuda, self.runs = cuda, list[tuple[int, bool]]()

    def step(self, tokens: Tensor, timestep: Tensor, conditions: Given) -> Tensor:
        self.runs.append((self.cuda.current, self.cuda.capturing))
        return tokens + conditions.value

    def tensors(self, conditions: Given) -> list[Tensor]:
        return [conditions.value]

    def own(self, conditions: Given) -> Given:
        return Given(conditions.value.clone())


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    cuda = Cuda()
    cuda.install(monkeypatch)
    yield cuda
    cuda_graphs._captures.cache_clear()


def test_a_step_runs_once_before_its_capture_and_all_captures_share_a_stream(cuda: Cuda) -> None:
    graphed = Watched(cuda)
    for size in (4, 8, 4, 8, 12):
        graphed(torch.zeros(1, size), torch.zeros(1), Given(torch.ones(1)))
    Watched(cuda)(torch.zeros(1, 4), torch.zeros(1), Given(torch.ones(1)))
    assert graphed.runs == [(1, False), (1, True)] * 3
    assert cuda.made == 1  # each further stream would keep a workspace of cuBLAS for good
    assert cuda.current == 0


def test_after_a_capture_that_fails_at_its_end_work_goes_on_where_it_was(cuda: Cuda) -> None:
    graphed = Watched(cuda)
    cuda.broken = "CUDA error: out of memory"  # of a graph that is instantiated
    with pytest.raises(RuntimeError, match="out of memory"):
        graphed(torch.zeros(1, 4), torch.zeros(1), Given(torch.ones(1)))
    assert cuda.current == 0
    assert not graphed._captured


def test_graphs_hold_nothing_of_an_edit_that_is_over(cuda: Cuda) -> None:
    graphed, conditions = Watched(cuda), Given(torch.full((1,), 3.0))
    graphed(torch.zeros(1, 4), torch.zeros(1), conditions)
    [captured] = graphed._captured.values()
    gone = ref(conditions)
    del conditions
    gc.collect()
    assert gone() is None
    for value in (5.0, 6.0):  # the next one may lie where that one lay
        graphed(torch.zeros(1, 4), torch.zeros(1), Given(torch.full((1,), value)))
        assert captured.conditions.value == value


def test_conditions_are_copied_once(cuda: Cuda) -> None:
    graphed, conditions = Watched(cuda), Given(torch.full((1,), 3.0))
    for _ in range(2):
        graphed(torch.zeros(1, 4), torch.zeros(1), conditions)
    [captured] = graphed._captured.values()
    captured.conditions.value.zero_()
    graphed(torch.zeros(1, 4), torch.zeros(1), conditions)
    assert captured.conditions.value == 0
