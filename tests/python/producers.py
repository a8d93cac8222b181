"""Objects that export arrays by one protocol only, and tensors and columns of other libraries that refuse to."""

from collections.abc import Sequence

import numpy as np


class Array:
    """An object with `__array__` and nothing else."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class DLPack:
    """An object with the DLPack protocol and nothing else; `device` 1 is the CPU, 2 is CUDA."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        if self.device != 1:
            raise BufferError("the data is not on the CPU")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.device, 0)


class Refusing:
    """A tensor that refuses to become an array, as torch tensors do on a GPU or with a gradient."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


ON_GPU = Refusing(TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first."))
WITH_GRADIENT = Refusing(RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach()."))


class Tensor:
    """What torch's tensors do: float32 values that may be said to be bfloat16, with a gradient or without."""

    def __init__(self, array, dtype="torch.float32", requires_grad=False, widened=None):
        self.array, self.dtype, self.requires_grad = np.asarray(array), dtype, requires_grad
        self.widened = [] if widened is None else widened

    @property
    def shape(self):
        return self.array.shape

    @property
    def ndim(self):
        return self.array.ndim

    def __len__(self):
        return len(self.array)

    def __getitem__(self, item):
        return Tensor(self.array[item], self.dtype, self.requires_grad, self.widened)

    def __float__(self):
        return float(self.__array__())

    def detach(self):
        return Tensor(self.array, self.dtype, False, self.widened)

    def float(self):
        self.widened.append(self.array.nbytes)
        return Tensor(self.array, "torch.float32", self.requires_grad, self.widened)

    def __array__(self, dtype=None, copy=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self.dtype != "torch.float32":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


class Column(Sequence):
    """A column of a data set: a sequence of rows whose slices are lists."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, item):
        return self.rows[item].tolist()


def objects(rows):
    """The rows as objects in an array, as tables hand out a column of vectors."""
    column = np.empty(len(rows), object)
    column[:] = list(rows)
    return column
