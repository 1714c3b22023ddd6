"""The ranks of a bundle that runs in this process."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_int64, c_void_p, cast
from typing import TYPE_CHECKING

import numpy as np

from . import _runtime

if TYPE_CHECKING:
    from .bundle import Bundle


def _pointers(array: np.ndarray):
    """Shape, dimensions and data of an array, as the runtime takes them."""
    shape = (c_int64 * max(1, array.ndim))(*array.shape)
    return cast(shape, POINTER(c_int64)), array.ndim, c_void_p(array.ctypes.data)


class Job:
    """Channels and sessions of all ranks. Each rank's calls are made together with the others', in its own thread."""

    def __init__(self, bundle: Bundle):
        self.runtime, self.ranks = bundle._runtime, bundle.ranks
        self.pool = ThreadPoolExecutor(self.ranks, thread_name_prefix="shardrt-rank")
        self.channels = (c_void_p * self.ranks)()
        self.sessions = [c_void_p() for _ in range(self.ranks)]
        facts = bundle._facts
        options = _runtime.ChannelOptions(
            ranks=self.ranks,
            arena_bytes=facts.arena_bytes,
            fingerprint=facts.fingerprint,
            max_groups=facts.max_groups,
            timeout_s=bundle._timeout,
        )
        self.runtime.channel_create_inprocess(byref(options), self.channels)
        weights = str(bundle._weights).encode() if bundle._weights else None
        threads = bundle._threads or max(1, len(os.sched_getaffinity(0)) // self.ranks)

        def create(rank: int) -> None:
            options = _runtime.SessionOptions(
                weights=weights,
                threads=threads,
                local_rank=rank,
                trace=int(bundle._trace),
                poison=int(bundle._poison),
                no_cuda_graph=int(not bundle._cuda_graph),
                share_device=int(bundle._share_device),
                nccl_ub=_runtime.NCCL_UB[bundle._nccl_ub],
            )
            session = self.sessions[rank]
            self.runtime.session_create(bundle._handle, self.channels[rank], byref(options), byref(session))

        try:
            self.together(create)
        except BaseException:
            self.close()
            raise

    def together(self, step, agreed: tuple[int, ...] = ()) -> None:
        """step(rank) on all ranks at once. If one fails the others are told, or they would wait for it; its error is
        raised, not theirs. agreed: statuses with which the runtime fails on all ranks alike, so that they can go on."""
        errors: list[Exception] = []

        def guarded(rank: int) -> None:
            try:
                step(rank)
            except Exception as error:
                error.left_ranks_usable = getattr(error, "status", None) in agreed
                errors.append(error)
                if not error.left_ranks_usable:
                    self.runtime.channel_abort(self.channels[rank], f"rank {rank}: {error}".encode())

        list(self.pool.map(guarded, range(self.ranks)))
        if errors:
            raise errors[0]

    def run(self, entry: str, inputs: dict[str, tuple[int, np.ndarray]], results: dict[str, np.ndarray]) -> None:
        """inputs: dtype code and array by name. results are filled."""

        def rank_run(rank: int) -> None:
            session = self.sessions[rank]
            for name, (code, array) in inputs.items():
                self.runtime.session_set_input(session, name.encode(), code, *_pointers(array))
            self.runtime.session_run(session, entry.encode())
            for name, result in results.items():  # a collective, whose result rank 0 gets
                self._receive(self.runtime.session_get_output, rank, name, result)

        self.together(rank_run, agreed=(_runtime.BAD_INPUT,))  # found before anything runs

    def get_tensors(self, results: dict[str, np.ndarray]) -> None:
        def get(rank: int) -> None:
            for name, result in results.items():
                self._receive(self.runtime.session_get_tensor, rank, name, result)

        self.together(get)

    def set_tensors(self, tensors: dict[str, tuple[int, np.ndarray]]) -> None:
        def put(rank: int) -> None:
            session = self.sessions[rank]
            for name, (code, array) in tensors.items():
                self.runtime.session_set_tensor(session, name.encode(), code, *_pointers(array))
            self.runtime.session_refresh(session)

        self.together(put)

    def checkpoint(self, function, path: str, states: list[_runtime.TrainerState]) -> None:
        """function: session_save or session_load."""

        def call(rank: int) -> None:
            function(self.sessions[rank], path.encode(), byref(states[rank]))

        self.together(call, agreed=(_runtime.INVALID_ARGUMENT, _runtime.BAD_WEIGHTS, _runtime.IO))

    def _receive(self, function, rank: int, name: str, result: np.ndarray) -> None:
        data = c_void_p(result.ctypes.data if rank == 0 else None)
        function(self.sessions[rank], name.encode(), data, result.nbytes if rank == 0 else 0)

    def close(self) -> None:
        # ranks that talk through NCCL part together
        list(self.pool.map(self.runtime.session_release, filter(None, self.sessions)))
        self.pool.shutdown()
        for channel in self.channels:
            if channel:
                self.runtime.channel_release(channel)
        self.sessions, self.channels = [], []
