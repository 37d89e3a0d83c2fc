"""The ring of the latest clips."""

import pytest
import torch
from cia_adapt.parts.layers.memory import Memory
from hypothesis import given, settings
from hypothesis import strategies as st


def test_the_memory_is_a_ring_without_gradients():
    memory = Memory(("rgb",), 5, 2)
    for first in (0, 3, 6):
        rows = torch.arange(first, first + 3)
        memory.push({"rgb": rows.float()[:, None].repeat(1, 2).requires_grad_()}, rows)
    assert sorted(memory.classes.tolist()) == [4, 5, 6, 7, 8]
    assert memory.features("rgb")[:, 0].tolist() == memory.classes.tolist() and not memory.features("rgb").requires_grad
    kept = memory.features("rgb")
    memory.push({"rgb": torch.arange(9.0)[:, None].repeat(1, 2)}, torch.arange(9))  # more than it holds
    assert sorted(memory.classes.tolist()) == [4, 5, 6, 7, 8] and memory.features("rgb")[:, 0].tolist() == memory.classes.tolist()
    assert kept[:, 0].tolist() == [5, 6, 7, 8, 4]  # a copy
    memory.push({"rgb": torch.full((1, 2), 9.0)}, torch.tensor([9]))
    assert sorted(memory.classes.tolist()) == [5, 6, 7, 8, 9]  # the oldest goes


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 8), pushes=st.lists(st.integers(0, 12), max_size=6))
def test_the_memory_holds_the_latest_clips(size, pushes):
    memory, told = Memory(("rgb",), size, 1), 0
    for count in pushes:
        rows = torch.arange(told, told + count)
        memory.push({"rgb": rows.float()[:, None]}, rows)
        told += count
    assert sorted(k for k in memory.classes.tolist() if k >= 0) == list(range(max(0, told - size), told))
    assert all(k in (-1, x) for k, x in zip(memory.classes.tolist(), memory.features("rgb")[:, 0].tolist(), strict=True))


@pytest.mark.parametrize(("labels", "shape"), [(None, [4]), (2, [4, 2])])
def test_the_names_and_shapes_are_those_of_runs_states(labels, shape):
    state = Memory(("rgb", "flow"), 4, 3, labels).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == {
        "features_rgb": [4, 3], "features_flow": [4, 3], "classes": shape, "next": [],
    }  # fmt: skip


def test_a_memory_of_no_clips_takes_none():
    memory = Memory(("rgb",), 0, 3)
    memory.push({"rgb": torch.ones(2, 3)}, torch.zeros(2, dtype=torch.long))
    assert memory.features("rgb").shape == (0, 3) and int(memory.next) == 0
