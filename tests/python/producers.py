"""Objects that export arrays by one protocol only, and a tensor that refuses to be converted."""


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
