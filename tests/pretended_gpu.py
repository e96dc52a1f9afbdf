"""A GPU for machines without one: tensors that say they are on another device, computed on the CPU, and refused where a real GPU would refuse them.

Inside `with PretendedGPU() as gpu:` things can be moved to `device()`. What devices may not do together (a tensor here and one there in one operation, a host's
random generator for a device's numbers) raises `MixedDevices`; `gpu.calls` counts operations, `gpu.waits` those for whose result the host must wait,
`gpu.arrivals` tensors that come from the host.
It tells nothing of speed, rounding or what kernels exist.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "pretended"
aten = torch.ops.aten
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""Operations whose indices may lie on the host."""
TOGETHER = {aten.cat.default, aten.stack.default, aten._fused_adam_.default}
"""Operations that take not even a scalar from the host."""
COPIES = {aten.copy_.default, aten._to_copy.default}
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._linalg_check_errors.default,
}


def lstm_cell(inputs: Tensor, hidden: Tensor, cell: Tensor, *biases: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """What GPUs have a kernel of their own for: new state, new cell, and the gates for the way back."""
    gates = sum((bias for bias in biases if bias is not None), inputs + hidden)
    enter, forget, new, leave = gates.chunk(4, dim=1)
    enter, forget, new, leave = enter.sigmoid(), forget.sigmoid(), new.tanh(), leave.sigmoid()
    cell = forget * cell + enter * new
    return leave * cell.tanh(), cell, torch.cat([enter, forget, new, leave], dim=1)


def lstm_cell_backward(
    state: Tensor | None, after: Tensor | None, before: Tensor, cell: Tensor, gates: Tensor, biased: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of gates, cell and bias from those of the new state and the cell after it."""
    enter, forget, new, leave = gates.chunk(4, dim=1)
    state = torch.zeros_like(cell) if state is None else state
    arriving = state * leave * (1 - cell.tanh().square()) + (0 if after is None else after)
    slopes = [
        arriving * new * enter * (1 - enter),
        arriving * before * forget * (1 - forget),
        arriving * enter * (1 - new.square()),
        state * cell.tanh() * leave * (1 - leave),
    ]
    found = torch.cat(slopes, dim=1)
    return found, arriving * forget, found.sum(0) if biased else None


KERNELS = {
    aten._thnn_fused_lstm_cell.default: lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: lstm_cell_backward,
}
"""Operations that CPUs lack."""


class MixedDevices(RuntimeError):
    """An operation had operands of both devices."""


@functools.cache
def device() -> torch.device:
    """The device; it stays registered with PyTorch until the process ends."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    return torch.device(NAME, 0)


class OnGPU(Tensor):
    """A tensor on the device; `held` are its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(), dtype=real.dtype, layout=real.layout, device=device()
        )  # fmt: skip
        made.held = real
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **options):
        raise MixedDevices("numpy(): the tensor lies on the device; .cpu() first")

    def __repr__(self):  # of PyTorch's own a failing test prints, which computes
        return f"OnGPU({list(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return PretendedGPU.now.run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """`torch.tensor(numbers, device=...)` and lists as indices go to the device out of sight of dispatch; here they are made on the host first."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            where = args[1] if isinstance(args[1], tuple) else (args[1],)
            made = tuple(torch.tensor(index) if isinstance(index, list) else index for index in where)
            args = (args[0], made if isinstance(args[1], tuple) else made[0], *args[2:])
        where = kwargs.pop("device", None) if func in (torch.tensor, torch.as_tensor) else None
        if func is Tensor.new_tensor:
            func, where, kwargs["dtype"] = torch.tensor, args[0].device, args[0].dtype
            args = args[1:]
        made = func(*args, **kwargs)
        return made if where is None else made.to(where)


class PretendedGPU(TorchDispatchMode):
    """While it is entered, there is the device.

    Attributes:
        calls: operations on the device, by name.
        waits: those of them that make the host wait for a result.
        arrivals: tensors of the host's that they copy to the device, indices among them.
    """

    now: "PretendedGPU"

    def __init__(self):
        super().__init__()
        self.calls: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self.arrivals: collections.Counter[str] = collections.Counter()

    def __enter__(self):
        device()
        PretendedGPU.now = self
        self._from_numbers = _FromNumbers().__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._from_numbers.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """One operation: on the device if it asks for it or any operand lies there."""
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        there = [value for value in tensors if isinstance(value, OnGPU)]
        asked = kwargs.get("device")
        asked = None if asked is None else torch.device(asked).type
        if not there and asked != NAME:
            return func(*args, **kwargs)
        self.calls[str(func)] += 1
        if (
            func in WAITS
            or (func in COPIES and asked == "cpu")
            or (func is aten.copy_.default and not isinstance(args[0], OnGPU))
        ):
            self.waits[str(func)] += 1
        if func in INDEXED and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            self.waits[f"{func} by a mask"] += 1
        self._refuse_mixed(func, args, tensors, there, asked, kwargs)
        if func in INDEXED or (func in COPIES and (asked == NAME or isinstance(args[0], OnGPU))):
            self.arrivals[str(func)] += len(tensors) - len(there)
        known = {id(value.held): value for value in there}

        def real(value):
            return value.held if isinstance(value, OnGPU) else value

        plain = {name: real(value) for name, value in tree_map(real, kwargs).items()}
        if asked is not None:
            plain["device"] = torch.device("cpu")
        if func is aten._to_copy.default:
            plain.pop("non_blocking", None)
        out = KERNELS.get(func, func)(*tree_map(real, args), **plain)
        if func is aten._to_copy.default and asked == "cpu":
            return out
        if func is aten.copy_.default and not isinstance(args[0], OnGPU):
            return args[0]

        def wrapped(value):
            return known.get(id(value)) if id(value) in known else OnGPU(value) if isinstance(value, Tensor) else value

        leaves, spec = tree_flatten(out)
        found = tree_unflatten([wrapped(value) for value in leaves], spec)
        return found if asked else return_and_correct_aliasing(func, args, kwargs, found)

    @staticmethod
    def _refuse_mixed(func, args, tensors, there, asked, kwargs) -> None:
        if kwargs.get("generator") is not None:
            raise MixedDevices(f"{func}: a host's generator for numbers of the device")
        if func in COPIES:
            return
        here = [value for value in tensors if not isinstance(value, OnGPU)]
        if func in INDEXED:
            here = (
                here
                if isinstance(args[0], OnGPU) and not here
                else [v for v in here if v is args[0] or any(v is other for other in args[2:])]
            )
        elif func not in TOGETHER:
            here = [value for value in here if value.dim()]
        if here and (there or asked == NAME):
            sizes = ", ".join(str(list(value.shape)) for value in here)
            raise MixedDevices(f"{func}: operands on the host ({sizes}) beside some on the device")
