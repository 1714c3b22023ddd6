"""The fake CUDA driver of test/cuda/fake, called from Python: kernels of PTX texts on numpy arrays."""

import ctypes

import numpy as np


class DriverError(Exception):
    """What the driver said."""


class Driver:
    """A context on device 0 of libcuda.so.1 in a folder."""

    def __init__(self, folder):
        self.library = ctypes.CDLL(str(folder / "libcuda.so.1"))
        self("cuInit", 0)
        context = ctypes.c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
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

    def launch(self, module, name, blocks, threads, arrays, shared=0):
        """Arrays are copied in and out again, the same one once; those that change are changed."""
        function, copies, addresses = ctypes.c_void_p(), {}, []
        self("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        if shared > 48 << 10:
            self("cuFuncSetAttribute", function, 8, shared)
        for array in arrays:
            if array.ctypes.data in copies:
                addresses.append(copies[array.ctypes.data][1])
                continue
            address = ctypes.c_uint64()
            copies[array.ctypes.data] = (array, address)
            self("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(array.nbytes, 1)))
            addresses.append(address)
            if array.nbytes:
                self("cuMemcpyHtoD_v2", address, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))
        arguments = (ctypes.c_void_p * len(addresses))(*[ctypes.addressof(address) for address in addresses])
        self("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, shared, None, arguments, None)
        self("cuCtxSynchronize")
        for array, address in copies.values():
            result = np.empty_like(array)
            if array.nbytes:
                self("cuMemcpyDtoH_v2", ctypes.c_void_p(result.ctypes.data), address, ctypes.c_size_t(array.nbytes))
            if not np.array_equal(result.view(np.uint8), np.ascontiguousarray(array).view(np.uint8)):
                array[...] = result
            self("cuMemFree_v2", address)
