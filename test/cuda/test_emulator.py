"""The PTX emulator finds what it is there to find."""

import numpy as np
import ptx_emulator
import pytest

TEMPLATE = """
.visible .entry k(
  .param .u64 .ptr .align 64 k_param_0,
  .param .u64 .ptr .align 64 k_param_1
)
.maxntid 64, 1, 1
{{
  .reg .pred %p<4>;
  .reg .b32 %r<9>;
  .reg .b64 %rd<9>;
  .shared .align 4 .b8 places[256];
  ld.param.b64 %rd1, [k_param_0];
  ld.param.b64 %rd2, [k_param_1];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd3, %r1, 4;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  cvt.u64.u32 %rd6, %r1;
  mov.b64 %rd7, places;
  add.s64 %rd8, %rd7, %rd3;
  ld.global.nc.b32 %r2, [%rd4];
  {body}
  ret;
}}
"""
REVERSE = """
  st.shared.b32 [%rd8], %r2;
  {barrier}
  sub.s64 %rd3, %rd7, %rd3;
  ld.shared.b32 %r3, [%rd3+252];
  st.global.b32 [%rd5], %r3;
"""


def launch(body, elements=64):
    source, target = np.arange(elements, dtype=np.int32), np.zeros(64, np.int32)
    ptx_emulator.launch(ptx_emulator.parse(TEMPLATE.format(body=body))["k"], 1, 64, [source, target], [False, True])
    return target


def test_runs():
    assert (launch(REVERSE.format(barrier="bar.sync 0;")) == np.arange(64)[::-1]).all()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (REVERSE.format(barrier=""), "two threads use one word of shared memory"),
        ("st.global.b32 [%rd4], %r2;", "buffer 0 is only read"),
        ("st.global.b32 [%rd5+4], %r2;", "beyond the 256 bytes of buffer 1"),
        ("ld.global.v2.b32 {%r3, %r4}, [%rd4];", "address not a multiple of 8"),
        ("setp.lt.u32 %p1, %r1, 40; @%p1 bra $L__BB0_1; bar.sync 0; $L__BB0_1:", "not all threads of a block reach the barrier"),
        ("setp.lt.u32 %p1, %r1, 40; @%p1 bra $L__BB0_1; shfl.sync.bfly.b32 %r3|%p2, %r2, 1, 31, -1; $L__BB0_1:", "not all threads of a warp"),
        ("tanh.approx.f32 %r3, %r2;", "instruction not understood"),
    ],
)
def test_finds(body, message):
    with pytest.raises(ptx_emulator.PtxError, match=message):
        launch(body)


def test_reads_beyond():
    with pytest.raises(ptx_emulator.PtxError, match="beyond the 252 bytes of buffer 0"):
        launch("", elements=63)


def test_diverged_threads_meet():
    body = """
  setp.lt.u32 %p1, %r1, 3;
  mov.b32 %r3, 7;
  @%p1 bra $L__BB0_1;
  mov.b32 %r3, 9;
$L__BB0_1:
  shfl.sync.bfly.b32 %r4|%p2, %r3, 1, 31, -1;
  st.global.b32 [%rd5], %r4;
"""
    assert launch(body)[:5].tolist() == [7, 7, 9, 7, 9]


COPY = """
  cp.async.ca.shared.global [%rd8], [%rd4], 4;
  {commit}
  {wait}
  ld.shared.b32 %r3, [%rd8];
  st.global.b32 [%rd5], %r3;
"""


def test_copies_arrive_when_waited_for():
    commit, wait = "cp.async.commit_group;", "cp.async.wait_group 0;"
    assert (launch(COPY.format(commit=commit, wait=wait)) == np.arange(64)).all()
    assert not launch(COPY.format(commit=commit, wait="")).any()
    assert not launch(COPY.format(commit=commit, wait="cp.async.wait_group 1;")).any()
    assert not launch(COPY.format(commit="", wait=wait)).any()


def test_warp_barrier_orders_its_warp_only():
    neighbour = "st.shared.b32 [%rd8], %r2; bar.warp.sync -1; xor.b64 %rd3, %rd8, {distance}; ld.shared.b32 %r3, [%rd3]; st.global.b32 [%rd5], %r3;"
    assert (launch(neighbour.format(distance=4)) == np.arange(64) ^ 1).all()
    with pytest.raises(ptx_emulator.PtxError, match="two threads use one word"):
        launch(neighbour.format(distance=128))


def test_matrices():
    body = """
  mov.b32 %r3, 0x3F803F80;
  mov.b32 %r4, 0x40004000;
  mov.b32 %r5, 0;
  mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r5, %r6, %r7, %r8}, {%r3, %r4, %r3, %r4}, {%r3, %r4}, {%r5, %r5, %r5, %r5};
  cvt.rzi.s32.f32 %r5, %r5;
  cvt.rzi.s32.f32 %r7, %r7;
  mad.lo.s32 %r5, %r7, 1000, %r5;
  st.global.b32 [%rd5], %r5;
"""
    # Rows g are ones, g + 8 twos; of the inner places half meet ones, half twos.
    assert (launch(body) == 8 * 1 + 8 * 2 + 1000 * (8 * 2 + 8 * 4)).all()
    rows = """
  st.shared.b32 [%rd8], %r2;
  bar.sync 0;
  and.b32 %r3, %r1, 15;
  mul.wide.u32 %rd3, %r3, 16;
  add.s64 %rd3, %rd7, %rd3;
  ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r3, %r4, %r5, %r6}}, [%rd3];
  st.global.b32 [%rd5], %r4;
"""
    # The second matrix is words 32 … 63: each lane has a word of it, or two halves of a column.
    assert (launch(rows.format(trans=""))[:32] == 32 + np.arange(32)).all()
    halves = np.arange(32, 64, dtype=np.int32).view(np.int16).reshape(8, 8).T.copy().view(np.int32).reshape(-1)
    assert (launch(rows.format(trans=".trans"))[:32] == halves).all()
