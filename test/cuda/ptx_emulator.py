"""Runs PTX on the CPU, all threads of a launch in step, with numpy. For tests: what is wrong with the code must show.

Besides results it checks what a GPU would punish or, worse, forgive: reads and writes outside of buffers, misaligned vector accesses,
writes to buffers that are only read, barriers, shuffles and matrix instructions that not all threads reach, races in shared memory
between barriers, copies that nobody waited for.

Threads are rows of numpy arrays. Those at the smallest program counter run until they branch or meet others, so that diverged threads
meet again behind what they diverged around. At what a block or a warp does together threads wait for each other. The PTX is the subset that LLVM makes of our kernels; anything else is an error.
"""

import re

import numpy as np

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
PACKED = {"f16x2": "f16", "bf16x2": "bf16"}  # two in 32 bits
COMPARE = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
UNSIGNED_COMPARE = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


class PtxError(Exception):
    """The code did what it must not, or is not understood."""


def width(kind):
    """Bits of a type's register."""
    if kind in PACKED:
        return 32
    match = re.fullmatch(r"pred|(?:[subf]|bf)(\d+)", kind)
    if not match:
        raise PtxError(f"type {kind} not understood")
    return int(match.group(1) or 1)


def from_bf16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded).astype(np.uint16)


def decode(bits, kind):
    """Numbers of raw register bits."""
    if kind == "pred" or kind == "b1":
        return bits
    if kind == "bf16":
        return from_bf16(bits.astype(np.uint16))
    raw = np.ascontiguousarray(bits.astype(UNSIGNED[width(kind)]))
    if kind in FLOATS:
        return raw.view(FLOATS[kind])
    return raw.view(SIGNED[width(kind)]) if kind[0] == "s" else raw


def encode(values, kind):
    if kind == "pred" or kind == "b1":
        return np.asarray(values, dtype=bool)
    if kind == "bf16":
        return to_bf16(values)
    if kind in FLOATS:
        return np.ascontiguousarray(values, dtype=FLOATS[kind]).view(UNSIGNED[width(kind)])
    values = np.asarray(values)
    return values.astype(SIGNED[width(kind)] if values.dtype.kind == "i" else UNSIGNED[width(kind)]).view(UNSIGNED[width(kind)])


class Instruction:
    def __init__(self, text, line):
        self.text, self.line = text, line
        match = re.match(r"(?:@(!?)(%\w+)\s+)?([\w.]+)\s*(.*)$", text, re.S)
        self.negated, self.guard, opcode, operands = match.group(1) == "!", match.group(2), match.group(3), match.group(4)
        self.parts = opcode.split(".")
        self.operands = [part.strip() for part in re.findall(r"\{[^}]*\}|\[[^]]*\]|[^,\s][^,]*", operands)]


class Kernel:
    def __init__(self, name, params, body):
        self.name, self.params = name, params
        self.shared, self.shared_bytes, self.code, self.labels, self.registers = {}, 0, [], {}, {}
        for number, statement in enumerate(re.sub(r"(\$\w+):", r"\1:;", body).split(";")):
            statement = " ".join(statement.split())
            if not statement:
                continue
            if statement.startswith(".reg"):
                kind, prefix = re.match(r"\.reg \.(\w+) (%\w+)<", statement).groups()
                self.registers[prefix] = 1 if kind == "pred" else int(kind[1:])
            elif statement.startswith(".shared"):
                align, symbol, size = re.match(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]", statement).groups()
                self.shared_bytes = -(-self.shared_bytes // int(align)) * int(align)
                self.shared[symbol] = self.shared_bytes
                self.shared_bytes += int(size)
            elif statement.startswith(".pragma"):
                continue
            elif statement.endswith(":"):
                self.labels[statement[:-1]] = len(self.code)
            else:
                self.code.append(Instruction(statement, number))


def parse(ptx):
    """The kernels of a PTX module by name."""
    ptx = re.sub(r"//[^\n]*", "", ptx)
    kernels = {}
    for match in re.finditer(r"\.entry (\w+)\s*\(([^)]*)\)([^{]*)\{", ptx):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(ptx[end], 0)
            end += 1
        params = re.findall(r"(\w+)(?:,|\s*$)", match.group(2).strip())
        kernels[match.group(1)] = Kernel(match.group(1), params, ptx[match.end() : end - 1])
    return kernels


class Buffer:
    def __init__(self, array, writable):
        self.array, self.writable = array, writable
        self.bytes = array.reshape(-1).view(np.uint8)


class Run:
    """Some blocks of a launch."""

    def __init__(self, kernel, blocks, threads, grid, buffers):
        self.kernel, self.threads, self.grid, self.buffers = kernel, threads, grid, buffers
        self.count = len(blocks) * threads
        self.block = np.repeat(np.arange(len(blocks)), threads)
        self.special = {
            "%tid.x": np.tile(np.arange(threads, dtype=np.uint32), len(blocks)),
            "%ctaid.x": np.repeat(np.asarray(blocks, dtype=np.uint32), threads),
            "%ntid.x": np.full(self.count, threads, np.uint32),
            "%nctaid.x": np.full(self.count, grid, np.uint32),
        }
        self.values = {}
        words = max(1, -(-kernel.shared_bytes // 4)) * len(blocks)
        self.shared = np.zeros(words * 4, np.uint8)
        self.words = words // len(blocks)
        # Last reader and writer of each shared word, and in which stretch between barriers.
        self.reader, self.writer = np.full(words, -1), np.full(words, -1)
        self.read_at, self.written_at = np.full(words, -1), np.full(words, -1)
        # Barriers of the block, and of the warp, so far.
        self.epoch, self.warp_epoch = np.zeros(len(blocks), int), np.zeros(self.count // 32, int)
        self.read_warp_at, self.written_warp_at = np.full(words, -1), np.full(words, -1)
        # Copies that nobody has waited for yet, and how many groups of them each thread has committed.
        self.copies, self.groups = [], np.zeros(self.count, int)

    def fail(self, instruction, why):
        raise PtxError(f"{self.kernel.name}: {why}, at `{instruction.text}`")

    # Registers and operands. `at`: numbers of the threads that run.

    def register(self, name):
        if name not in self.values:
            bits = self.kernel.registers[re.sub(r"\d+$", "", name)]
            self.values[name] = np.zeros(self.count, bool if bits == 1 else UNSIGNED[bits])
        return self.values[name]

    def raw(self, operand, at):
        if operand in self.special:
            return self.special[operand][at]
        if operand.startswith("%"):
            return self.register(operand)[at]
        if operand in self.kernel.shared:
            return np.full(len(at), self.kernel.shared[operand], np.uint64)
        if operand[:2] in ("0f", "0d"):
            return np.full(len(at), int(operand[2:], 16), np.uint64)
        return np.full(len(at), int(operand.rstrip("U"), 0) & 0xFFFFFFFFFFFFFFFF, np.uint64)

    def get(self, operand, kind, at):
        return decode(self.raw(operand, at), kind)

    def put(self, operand, kind, at, values):
        target = self.register(operand)
        target[at] = encode(values, kind).astype(target.dtype)

    # Memory.

    def address(self, instruction, operand, at):
        base, _, offset = operand[1:-1].partition("+")
        return self.raw(base.strip(), at).astype(np.int64) + int(offset or "0", 0)

    def access(self, instruction, at, addresses, size, vector, write=None):
        """Elements of `size` bytes, `vector` of them at each address."""
        if (addresses % (size * vector)).any():
            self.fail(instruction, f"address not a multiple of {size * vector}")
        space = self.global_access if "global" in instruction.parts else self.shared_access
        return space(instruction, at, addresses, size, vector, write)

    def global_access(self, instruction, at, addresses, size, vector, write):
        numbers, offsets = addresses >> 40, addresses & ((1 << 40) - 1)
        result = np.zeros((vector, len(at)), UNSIGNED[size * 8])
        for number in np.unique(numbers):
            if not 1 <= number <= len(self.buffers):
                self.fail(instruction, "address of no buffer")
            buffer, mine = self.buffers[number - 1], numbers == number
            if (offsets[mine] + size * vector > buffer.bytes.size).any():
                self.fail(instruction, f"access {offsets[mine].max()} beyond the {buffer.bytes.size} bytes of buffer {number - 1}")
            elements, index = buffer.bytes.view(UNSIGNED[size * 8]), offsets[mine] // size
            for lane in range(vector):
                if write is None:
                    result[lane, mine] = elements[index + lane]
                elif not buffer.writable:
                    self.fail(instruction, f"buffer {number - 1} is only read")
                else:
                    elements[index + lane] = write[lane][mine]
        return result

    def shared_access(self, instruction, at, addresses, size, vector, write):
        if (addresses + size * vector > self.kernel.shared_bytes).any():
            self.fail(instruction, f"access beyond the {self.kernel.shared_bytes} bytes of shared memory")
        block = self.block[at]
        result = np.zeros((vector, len(at)), UNSIGNED[size * 8])
        for lane in range(vector):
            offsets = addresses + lane * size + block * self.words * 4
            word = offsets // 4
            elements = self.shared.view(UNSIGNED[size * 8])
            if write is None:
                self.mark_read(instruction, at, word)
                result[lane] = elements[offsets // size]
            else:
                if len(np.unique(offsets)) != len(offsets):
                    self.fail(instruction, "two threads write one word of shared memory")
                self.mark_written(instruction, at, word)
                elements[offsets // size] = write[lane]
        return result

    # Races: another thread has used the word since the last barrier of the block, or of both threads' warp.

    def is_recent(self, at, others, block_epoch, warp_epoch):
        apart = others // 32 != at // 32
        return (block_epoch == self.epoch[self.block[at]]) & (others != at) & (apart | (warp_epoch == self.warp_epoch[at // 32]))

    def mark_read(self, instruction, at, word):
        if self.is_recent(at, self.writer[word], self.written_at[word], self.written_warp_at[word]).any():
            self.fail(instruction, "two threads use one word of shared memory without a barrier between")
        self.reader[word], self.read_at[word], self.read_warp_at[word] = at, self.epoch[self.block[at]], self.warp_epoch[at // 32]

    def mark_written(self, instruction, at, word):
        races = self.is_recent(at, self.writer[word], self.written_at[word], self.written_warp_at[word])
        races |= self.is_recent(at, self.reader[word], self.read_at[word], self.read_warp_at[word])
        if races.any():
            self.fail(instruction, "two threads use one word of shared memory without a barrier between")
        self.writer[word], self.written_at[word], self.written_warp_at[word] = at, self.epoch[self.block[at]], self.warp_epoch[at // 32]

    # Control.

    def run(self):
        code = self.kernel.code
        position, parked = np.zeros(self.count, int), np.zeros(self.count, bool)
        done = len(code)
        while True:
            running = position[~parked]
            current = running.min() if len(running) else done
            if current == done:
                if parked.any():
                    instruction = code[position[parked].min()]
                    group, what = ("block", "barrier") if self.group_size(instruction) == self.threads else ("warp", instruction.parts[0])
                    self.fail(instruction, f"not all threads of a {group} reach the {what}")
                return
            at = np.flatnonzero((position == current) & ~parked)
            others = running[running > current]
            limit = others.min() if len(others) else done
            while True:
                instruction = code[current]
                kind = instruction.parts[0]
                if kind in ("ret", "exit", "bra"):
                    taken = np.ones(len(at), bool)
                    if instruction.guard:
                        taken = self.register(instruction.guard)[at] ^ instruction.negated
                    target = done if kind != "bra" else self.kernel.labels[instruction.operands[0]]
                    position[at] = np.where(taken, target, current + 1)
                    break
                if instruction.guard:
                    self.fail(instruction, "predicated instructions are not understood")
                if self.group_size(instruction):
                    at = self.gather(instruction, at, position, parked, current)
                    if not len(at):
                        break
                if kind in ("bar", "barrier"):
                    self.barrier(instruction, at)
                else:
                    self.step(instruction, at)
                current += 1
                if current >= limit:
                    position[at] = current
                    break

    def group_size(self, instruction):
        """How many neighbouring threads execute it together; 0: each by itself."""
        if instruction.parts[0] in ("bar", "barrier") and "warp" not in instruction.parts:
            return self.threads
        return 32 if instruction.parts[0] in ("bar", "shfl", "ldmatrix", "mma") else 0

    def gather(self, instruction, at, position, parked, current):
        """The threads whose group is all here, with those that have waited; the others wait."""
        size = self.group_size(instruction)
        here = parked & (position == current)
        here[at] = True
        alive = position < len(self.kernel.code)
        if size == 32:  # a lane that has ended never comes
            alive[:] = True
        complete = (here.reshape(-1, size).sum(axis=1) == alive.reshape(-1, size).sum(axis=1)).repeat(size)
        waiting, ready = here & ~complete, here & complete
        position[here] = current
        parked[waiting], parked[ready] = True, False
        return np.flatnonzero(ready)

    def barrier(self, instruction, at):
        if "warp" in instruction.parts:
            self.warp_epoch[np.unique(at // 32)] += 1
        else:
            self.epoch[np.unique(self.block[at])] += 1

    def step(self, instruction, at):
        method = getattr(self, "do_" + instruction.parts[0].replace("and", "bits").replace("xor", "bits"), None)
        if method is None:
            self.fail(instruction, "instruction not understood")
        with np.errstate(all="ignore"):
            method(instruction, at, instruction.parts[-1], instruction.operands)

    # Instructions: `kind` is the type, `o` the operands.

    def do_mov(self, i, at, kind, o):
        for packed, single in ((o[1], o[0]), (o[0], o[1])):
            if packed.startswith("{"):
                pieces = [piece.strip() for piece in packed[1:-1].split(",")]
                bits = width(kind) // len(pieces)
                if packed is o[1]:
                    whole = sum(self.raw(piece, at).astype(np.uint64) << np.uint64(bits * n) for n, piece in enumerate(pieces))
                    return self.put(single, kind, at, whole)
                whole = self.raw(single, at).astype(np.uint64)
                for n, piece in enumerate(pieces):
                    if piece != "_":
                        self.put(piece, f"b{bits}", at, (whole >> np.uint64(bits * n)) & np.uint64((1 << bits) - 1))
                return None
        if kind in ("pred", "b1"):
            return self.put(o[0], kind, at, self.raw(o[1], at) != 0)
        return self.put(o[0], kind, at, self.get(o[1], kind, at))

    def do_cvta(self, i, at, kind, o):
        self.put(o[0], "u64", at, self.get(o[1], "u64", at))

    def do_ld(self, i, at, kind, o):
        if "param" in i.parts:
            number = self.kernel.params.index(o[1][1:-1])
            return self.put(o[0], "u64", at, np.full(len(at), (number + 1) << 40, np.uint64))
        targets = [piece.strip() for piece in o[0].strip("{}").split(",")]
        loaded = self.access(i, at, self.address(i, o[1], at), width(kind) // 8, len(targets))
        for target, values in zip(targets, loaded):
            if target != "_":
                values = values.view(SIGNED[width(kind)]) if kind[0] == "s" else values
                register = self.register(target)
                register[at] = values.astype(SIGNED[register.dtype.itemsize * 8]).view(register.dtype) if kind[0] == "s" else values
        return None

    def do_st(self, i, at, kind, o):
        sources = [piece.strip() for piece in o[1].strip("{}").split(",")]
        bits = UNSIGNED[width(kind)]
        self.access(i, at, self.address(i, o[0], at), width(kind) // 8, len(sources), [self.raw(source, at).astype(bits) for source in sources])

    def arithmetic(self, i, at, kind, o, function):
        """A function of numbers of one type; floats are computed in double and rounded once."""
        if kind in PACKED:
            halves = []
            for shift in (0, 16):
                numbers = [decode((self.raw(x, at).astype(np.uint32) >> np.uint32(shift)).astype(np.uint16), PACKED[kind]).astype(np.float64) for x in o[1:]]
                halves.append(encode(function(*numbers), PACKED[kind]).astype(np.uint32) << np.uint32(shift))
            return self.put(o[0], "b32", at, halves[0] | halves[1])
        numbers = [self.get(x, kind, at) for x in o[1:]]
        if kind[-3:] in ("f32", "f16") or kind == "bf16":
            numbers = [x.astype(np.float64) for x in numbers]
        return self.put(o[0], kind, at, function(*numbers))

    def do_add(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.add)

    def do_sub(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.subtract)

    def do_neg(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.negative)

    def do_abs(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.abs)

    def do_fma(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, lambda x, y, z: x * y + z)

    def do_sqrt(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.sqrt)

    def do_rsqrt(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, lambda x: 1 / np.sqrt(x))

    def do_rcp(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, lambda x: 1 / x)

    def do_min(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.minimum if "NaN" in i.parts or kind[0] in "us" else np.fmin)

    def do_max(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.maximum if "NaN" in i.parts or kind[0] in "us" else np.fmax)

    def do_mul(self, i, at, kind, o):
        if "wide" in i.parts:
            return self.put(o[0], f"{kind[0]}{width(kind) * 2}", at, self.wide(kind, at, o))
        if "hi" in i.parts:
            x, y = (self.get(operand, kind, at).astype(object) for operand in o[1:])
            return self.put(o[0], kind, at, np.array([int(p) >> width(kind) for p in x * y], dtype=SIGNED[64] if kind[0] == "s" else np.uint64))
        return self.arithmetic(i, at, kind, o, np.multiply)

    def wide(self, kind, at, o):
        bigger = (SIGNED if kind[0] == "s" else UNSIGNED)[width(kind) * 2]
        return self.get(o[1], kind, at).astype(bigger) * self.get(o[2], kind, at).astype(bigger)

    def do_mad(self, i, at, kind, o):
        if "wide" in i.parts:
            result = f"{kind[0]}{width(kind) * 2}"
            return self.put(o[0], result, at, self.wide(kind, at, o) + self.get(o[3], result, at))
        return self.arithmetic(i, at, kind, o, lambda x, y, z: x * y + z)

    def do_div(self, i, at, kind, o):
        if kind in FLOATS:
            return self.arithmetic(i, at, kind, o, np.divide)
        x, y = (self.get(operand, kind, at) for operand in o[1:])
        quotient = np.abs(x) // np.abs(y) if kind[0] == "s" else x // y
        return self.put(o[0], kind, at, np.where((x < 0) != (y < 0), -quotient, quotient) if kind[0] == "s" else quotient)

    def do_rem(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.fmod)

    def do_bits(self, i, at, kind, o):
        function = {"and": np.bitwise_and, "xor": np.bitwise_xor}[i.parts[0]]
        self.put(o[0], kind, at, function(self.truth(o[1], kind, at), self.truth(o[2], kind, at)))

    def truth(self, operand, kind, at):
        return self.raw(operand, at).astype(bool) if kind in ("pred", "b1") else self.get(operand, kind, at)

    def do_or(self, i, at, kind, o):
        self.put(o[0], kind, at, self.truth(o[1], kind, at) | self.truth(o[2], kind, at))

    def do_not(self, i, at, kind, o):
        self.put(o[0], kind, at, ~self.truth(o[1], kind, at))

    def do_shl(self, i, at, kind, o):
        amount = self.get(o[2], "u32", at)
        self.put(o[0], kind, at, np.where(amount < width(kind), self.get(o[1], kind, at) << np.minimum(amount, width(kind) - 1).astype(UNSIGNED[width(kind)]), 0))

    def do_shr(self, i, at, kind, o):
        amount, x = self.get(o[2], "u32", at), self.get(o[1], kind, at)
        shifted = x >> np.minimum(amount, width(kind) - 1).astype(x.dtype)
        self.put(o[0], kind, at, shifted if kind[0] == "s" else np.where(amount < width(kind), shifted, 0).astype(x.dtype))

    def do_bfe(self, i, at, kind, o):
        if kind[0] == "s":
            self.fail(i, "instruction not understood")
        x, start, length = (self.raw(operand, at).astype(np.uint64) for operand in o[1:])
        self.put(o[0], kind, at, (x >> start) & ((np.uint64(1) << length) - np.uint64(1)))

    def do_prmt(self, i, at, kind, o):
        x, y, selector = (self.raw(operand, at).astype(np.uint64) for operand in o[1:])
        both, result = x & np.uint64(0xFFFFFFFF) | (y << np.uint64(32)), np.zeros(len(at), np.uint64)
        for byte in range(4):
            choice = (selector >> np.uint64(4 * byte)) & np.uint64(15)
            if (choice > 7).any():
                self.fail(i, "sign replication not understood")
            result |= ((both >> (choice * np.uint64(8))) & np.uint64(255)) << np.uint64(8 * byte)
        self.put(o[0], "b32", at, result)

    def do_setp(self, i, at, kind, o):
        if len(i.parts) != 3:
            self.fail(i, "instruction not understood")
        name = i.parts[1]
        x, y = self.get(o[1], kind, at), self.get(o[2], kind, at)
        if name in ("num", "nan"):
            unordered = np.isnan(x) | np.isnan(y)
            return self.put(o[0], "pred", at, unordered if name == "nan" else ~unordered)
        is_float = kind in FLOATS or kind == "bf16"
        if is_float and name[-1] == "u" and len(name) == 3:
            return self.put(o[0], "pred", at, COMPARE[name[:2]](x, y) | np.isnan(x) | np.isnan(y))
        result = COMPARE[UNSIGNED_COMPARE.get(name, name)](x, y)
        return self.put(o[0], "pred", at, result & ~(np.isnan(x) | np.isnan(y)) if is_float else result)

    def do_selp(self, i, at, kind, o):
        self.put(o[0], kind, at, np.where(self.raw(o[3], at).astype(bool), self.get(o[1], kind, at), self.get(o[2], kind, at)))

    def do_ex2(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.exp2)

    def do_lg2(self, i, at, kind, o):
        self.arithmetic(i, at, kind, o, np.log2)

    def do_copysign(self, i, at, kind, o):
        self.put(o[0], kind, at, np.copysign(self.get(o[2], kind, at), self.get(o[1], kind, at)))

    def do_cvt(self, i, at, kind, o):
        target, source = i.parts[-2], i.parts[-1]
        if target in PACKED:
            high, low = (encode(self.get(x, source, at), PACKED[target]).astype(np.uint32) for x in o[1:])
            return self.put(o[0], "b32", at, (high << np.uint32(16)) | low)
        x = self.get(o[1], source, at)
        rounding = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}
        for part in i.parts[1:-2]:
            if part in rounding:
                x = rounding[part](x)
            elif part not in ("rn", "sat", "ftz"):
                self.fail(i, "rounding not understood")
        if target in FLOATS or target == "bf16":
            if "sat" in i.parts:
                self.fail(i, "saturation not understood")
            return self.put(o[0], target, at, x.astype(np.float64) if x.dtype.kind in "iu" else x)
        if x.dtype.kind == "f":
            limits = np.iinfo((SIGNED if target[0] == "s" else UNSIGNED)[width(target)])
            x = np.nan_to_num(x.astype(np.float64), nan=0.0)
            inside = np.clip(x, float(limits.min), np.nextafter(float(limits.max), 0) if width(target) == 64 else limits.max)
            x = inside.astype((SIGNED if target[0] == "s" else UNSIGNED)[width(target)])
        bits = self.register(o[0])
        wide = x.astype((SIGNED if target[0] == "s" else UNSIGNED)[width(target)])
        bits[at] = wide.astype(SIGNED[bits.dtype.itemsize * 8]).view(bits.dtype) if target[0] == "s" else wide
        return None

    def do_shfl(self, i, at, kind, o):
        if i.parts[2] not in ("bfly", "idx"):
            self.fail(i, "instruction not understood")
        target, _, predicate = o[0].partition("|")
        lane = self.get(o[2], "u32", at).astype(int)
        source = at ^ lane if i.parts[2] == "bfly" else (at & ~31) | (lane & 31)
        self.register(target)[at] = self.register(o[1])[source]
        if predicate:
            self.register(predicate)[at] = True


    # Asynchronous copies: bytes arrive when the thread waits for them, so that whoever looks earlier sees the old ones.

    def do_cp(self, i, at, kind, o):
        if i.parts[1] != "async":
            self.fail(i, "instruction not understood")
        if i.parts[2] == "commit_group":
            self.groups[at] += 1
        elif i.parts[2] == "wait_group":
            self.finish_copies(i, at, int(o[0]))
        else:
            self.start_copy(i, at, o)

    def start_copy(self, i, at, o):
        target, source, size = self.address(i, o[0], at), self.address(i, o[1], at), int(o[2])
        taken = self.get(o[3], "u32", at) if len(o) > 3 else np.full(len(at), size)
        if size not in ((16,) if "cg" in i.parts else (4, 8, 16)) or ((taken != 0) & (taken != size)).any():
            self.fail(i, "size of a copy not understood")
        if (target % size).any() or (source % size).any():
            self.fail(i, f"address not a multiple of {size}")
        if (target + size > self.kernel.shared_bytes).any():
            self.fail(i, f"access beyond the {self.kernel.shared_bytes} bytes of shared memory")
        words, full = np.zeros((size // 4, len(at)), np.uint32), taken == size
        if full.any():
            words[:, full] = self.global_access(i, at[full], source[full], 4, size // 4, None)
        place = (target // 4 + self.block[at] * self.words) + np.arange(size // 4)[:, None]
        for word in place:
            self.mark_written(i, at, word)
        self.copies.append((at, self.groups[at].copy(), place, words))

    def finish_copies(self, i, at, pending):
        waits, rest = np.zeros(self.count, bool), []
        waits[at] = True
        memory = self.shared.view(np.uint32)
        for threads, group, place, words in self.copies:
            done = waits[threads] & (group < self.groups[threads] - pending)
            if done.any():
                for word in place[:, done]:
                    self.mark_written(i, threads[done], word)
                memory[place[:, done]] = words[:, done]
            if not done.all():
                rest.append((threads[~done], group[~done], place[:, ~done], words[:, ~done]))
        self.copies = rest

    # Tensor cores. Lane 4g + t has two neighbours of row g, columns 2t and 2t + 1, of each 8x8 matrix.

    def do_ldmatrix(self, i, at, kind, o):
        if "x4" not in i.parts or kind != "b16":
            self.fail(i, "instruction not understood")
        rows = self.access(i, at, self.address(i, o[1], at), 2, 8)  # each lane's row of eight
        matrices = rows.T.reshape(-1, 4, 8, 8)
        if "trans" in i.parts:
            matrices = matrices.swapaxes(2, 3)
        pairs = matrices.reshape(-1, 4, 32, 2).astype(np.uint32)
        for number, register in enumerate(o[0].strip("{}").split(",")):
            self.put(register.strip(), "b32", at, (pairs[:, number, :, 0] | (pairs[:, number, :, 1] << np.uint32(16))).reshape(-1))

    def do_mma(self, i, at, kind, o):
        if i.parts[1:6] != ["sync", "aligned", "m16n8k16", "row", "col"] or i.parts[6] != "f32" or i.parts[9] != "f32" or i.parts[7] not in ("f16", "bf16"):
            self.fail(i, "instruction not understood")
        target, a, b, c = ([name.strip() for name in operand.strip("{}").split(",")] for operand in o)

        def halves(register):
            """[warp, g, t, 2]: an 8x8 matrix by rows."""
            bits = self.raw(register, at).astype(np.uint32)
            both = np.stack([bits & np.uint32(0xFFFF), bits >> np.uint32(16)], -1).astype(np.uint16)
            return decode(both, i.parts[7]).astype(np.float64).reshape(-1, 8, 8)

        def sums(low, high):
            return np.stack([self.get(low, "f32", at), self.get(high, "f32", at)], -1).astype(np.float64).reshape(-1, 8, 8)

        left = np.concatenate([np.concatenate([halves(a[0]), halves(a[2])], 2), np.concatenate([halves(a[1]), halves(a[3])], 2)], 1)
        right = np.concatenate([halves(b[0]), halves(b[1])], 2)  # [column, inner]
        product = left @ right.swapaxes(1, 2) + np.concatenate([sums(c[0], c[1]), sums(c[2], c[3])], 1)
        for half in (0, 1):
            pairs = product[:, 8 * half : 8 * half + 8].reshape(-1, 32, 2)
            for n in (0, 1):
                self.put(target[2 * half + n], "f32", at, pairs[:, :, n].reshape(-1))


def launch(kernel, grid, threads, arrays, writable):
    """Runs a kernel on numpy arrays, which it changes. `writable`: which of them may be written."""
    buffers = [Buffer(array, may) for array, may in zip(arrays, writable)]
    if threads % 32:
        raise PtxError(f"{kernel.name}: {threads} threads a block are no whole warps")
    step = max(1, 16384 // threads)
    for first in range(0, grid, step):
        Run(kernel, range(first, min(grid, first + step)), threads, grid, buffers).run()
