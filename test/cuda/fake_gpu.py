"""The fake CUDA driver of test/cuda/fake, called from Python: kernels of PTX texts on numpy arrays."""

import ctypes

import numpy as np


class DriverError(Exception):
    """What the driver said."""


class Driver:
    """A context on a device of libcuda.so.1 in a folder; on the next one, when a launch has failed."""

    def __init__(self, folder):
        self.library = ctypes.CDLL(str(folder / "libcuda.so.1"))
        self("cuInit", 0)
        self.device = -1
        self.use_next_device()

    def use_next_device(self):
        self.device += 1
        context = ctypes.c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self("cuCtxSetCurrent", context)

    def __call__(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(status, ctypes.byref(text))
            raise DriverError(f"{name}: {text.value.decode() if text.value else status}")

    def load(self, ptx):
        log = ctypes.create_string_buffer(1000)
        module, options, values = ctypes.c_void_p(), (ctypes.c_int * 2)(5, 6), (ctypes.c_void_p * 2)(ctypes.addressof(log), 1000)
        try:
            self("cuModuleLoadDataEx", ctypes.byref(module), ptx.encode(), 2, options, values)
        except DriverError as error:
            raise DriverError(f"{error}: {log.value.decode()}") from None
        return module

    def launch(self, module, name, blocks, threads, arrays, may_write, shared=0):
        """Arrays may be parts of the same memory, which is copied in and out again once."""
        function, copies, addresses = ctypes.c_void_p(), {}, []
        self("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        if shared > 48 << 10:
            self("cuFuncSetAttribute", function, 8, shared)
        for array, writable in zip(arrays, may_write):
            whole = memory_of(array)
            if whole.ctypes.data not in copies:
                copies[whole.ctypes.data] = Copy(self, whole)
            copy = copies[whole.ctypes.data]
            copy.may_be_written |= writable
            addresses.append(ctypes.c_uint64(copy.address.value + array.ctypes.data - whole.ctypes.data))
        arguments = (ctypes.c_void_p * len(addresses))(*[ctypes.addressof(address) for address in addresses])
        try:
            self("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, shared, None, arguments, None)
            self("cuCtxSynchronize")
        except DriverError as error:
            self.use_next_device()
            raise DriverError(f"{name}: {error}; stderr has the reason") from None
        for copy in copies.values():
            copy.take_back(name)


def memory_of(array):
    """The bytes that an array is a part of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.reshape(-1).view(np.uint8)


class Copy:
    """On the device."""

    def __init__(self, driver, array):
        self.driver, self.array, self.address, self.may_be_written = driver, array, ctypes.c_uint64(), False
        driver("cuMemAlloc_v2", ctypes.byref(self.address), ctypes.c_size_t(max(array.nbytes, 1)))
        if array.nbytes:
            driver("cuMemcpyHtoD_v2", self.address, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))

    def take_back(self, name):
        result = np.empty_like(self.array)
        if result.nbytes:
            self.driver("cuMemcpyDtoH_v2", ctypes.c_void_p(result.ctypes.data), self.address, ctypes.c_size_t(result.nbytes))
        if not self.may_be_written and not np.array_equal(result, self.array):
            raise DriverError(f"{name}: a buffer that is only read was written")
        self.array[...] = result
        self.driver("cuMemFree_v2", self.address)
