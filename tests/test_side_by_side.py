"""Work on all cores: in order, several at a time, one thread of PyTorch each, and errors where they belong."""

import threading

import pytest
import torch

from tars3d.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def three_threads():
    """PyTorch as on a machine of three cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_work_goes_side_by_side():
    together = threading.Barrier(3, timeout=30)  # broken unless three are at it at a time

    def work(number: int) -> tuple[int, int]:
        together.wait()
        return number, torch.get_num_threads()

    found = [future.result() for future in side_by_side(work, range(6))]
    assert found == [(number, 1) for number in range(6)]
    assert torch.get_num_threads() == 3


def test_an_error_is_raised_by_its_own_item_alone():
    found = list(side_by_side(lambda number: 6 // number, [1, 0, 2]))
    assert [found[0].result(), found[2].result()] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        found[1].result()
    assert isinstance(next(side_by_side(lambda number: 6 // number, [0])).exception(), ZeroDivisionError)


@pytest.mark.parametrize(
    ("items", "device", "resolution"), [([1], "cpu", 0), ([1, 2], "meta", 0), ([1, 2], "cpu", 512)]
)
def test_one_item_or_another_device_or_large_meshes_need_no_threads(items, device, resolution):
    def work(_: int) -> tuple[threading.Thread, int]:
        return threading.current_thread(), torch.get_num_threads()

    found = [future.result() for future in side_by_side(work, items, device, resolution=resolution)]
    assert found == [(threading.main_thread(), 3)] * len(items)


def test_not_many_more_are_begun_than_were_asked_for():
    begun = []
    some = side_by_side(begun.append, range(100))
    next(some)
    some.close()
    assert len(begun) <= 6
    assert torch.get_num_threads() == 3
