//===- Exec.td - The schedule: buffers in one arena, commands that use them -*- tablegen -*-===//

#ifndef SHARDC_EXEC_TD
#define SHARDC_EXEC_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"

def Exec_Dialect : Dialect {
  let name = "exec";
  let cppNamespace = "::shardc::exec";
  let summary = "What every rank executes: the module form of program.json";
  let description = [{
    A program is a list of buffers with places in one arena, and a list of commands. It is the same for all ranks; what differs between
    them are the parts of weights and inputs that they load, and `axis_index` buffers. docs/contracts.md §3 has the meaning of each field.
  }];
}

def Exec_Buffer : MemRefOf<[AnyType]>;

class Exec_Op<string mnemonic, list<Trait> traits = []> : Op<Exec_Dialect, mnemonic, traits>;

def Exec_ProgramOp : Exec_Op<"program", [Symbol, NoTerminator, SingleBlock, NoRegionArguments, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Buffers and commands of one entry point";
  let description = [{
    `cuda`: the program is for GPUs; {scratch, workspace, staging}, each [offset, bytes], are ranges of the arena that commands on the compute
    stream use one after the other. {host}, [offset, bytes], is a range behind the arena that is in the machine's memory instead of the device's.

    * program_c1: every buffer lies inside the arena or the host range, at a multiple of 64; for GPUs at a multiple of 256, unless it is a part of another.
    * program_c2: buffers that are filled on loading (parameter, constant, axis_index) overlap no other.
    * program_c3: while a value is needed, no command writes over it but into the same buffer or a part of it.
    * program_c4: ranges of GPUs lie inside the arena at multiples of 256, and overlap neither each other nor any buffer.
    * program_c5: on GPUs a collective whose data NCCL cannot take as it lies fits the staging range, and completes where it stands: there
      is one such range for all of them.
    * program_c6: the host range begins where the arena ends. Only states and their parts lie there, and no collective but copies touches them, and gathers
      into whole buffers, which read their part from there.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$arena, OptionalAttr<FlatSymbolRefAttr>:$mesh,
                       OptionalAttr<DictionaryAttr>:$cuda);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name (`on` $mesh^)? `arena` $arena (`cuda` $cuda^)? attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
}

def Exec_Kind : I32EnumAttr<"Kind", "what a buffer holds", [
    I32EnumAttrCase<"Input", 0, "input">, I32EnumAttrCase<"Output", 1, "output">, I32EnumAttrCase<"Parameter", 2, "parameter">,
    I32EnumAttrCase<"Constant", 3, "constant">, I32EnumAttrCase<"AxisIndex", 4, "axis_index">,
    I32EnumAttrCase<"Temporary", 5, "temporary">, I32EnumAttrCase<"State", 6, "state">]> {
  let cppNamespace = "::shardc::exec";
}

def Exec_BufferOp : Exec_Op<"buffer", [HasParent<"ProgramOp">]> {
  let summary = "A place in the arena";
  let description = [{
    `value` holds what is specific to the kind: of an input, output or parameter its global type, and the sharding if it is cut; of a
    parameter also the name of the tensor, segment and panels; of a constant the value; of an axis index the axes.
    `whole`: number of the buffer that it is a part of.

    * buffer_c1: a part lies inside of its whole.
  }];
  let arguments = (ins Exec_Kind:$kind, StrAttr:$name, I64Attr:$offset, I64Attr:$bytes, OptionalAttr<I64Attr>:$whole, OptionalAttr<DictionaryAttr>:$value);
  let results = (outs Exec_Buffer:$result);
  let assemblyFormat = "$kind $name `at` $offset `size` $bytes (`of` $whole^)? ($value^)? attr-dict `:` type($result)";
}

def Exec_LaunchOp : Exec_Op<"launch", [HasParent<"ProgramOp">, DeclareOpInterfaceMethods<SymbolUserOpInterface>, AttrSizedOperandSegments]> {
  let summary = "Runs a kernel: reads the inputs, writes the outputs";
  let description = [{
    `init`: once after loading, not in every run.

    * launch_c1: the kernel is a function with `exec.kernel`, and has as many arguments and results.
    * launch_c2: outputs are as large as the kernel's results.
    * launch_c3: on GPUs the kernel's scratch memory (`exec.scratch`) fits the program's range.
    * launch_c4: an output that is an input too is so by the kernel's `exec.in_place`, and the other way round: what else reads the old value reads it before.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<Exec_Buffer>:$inputs, Variadic<Exec_Buffer>:$outputs, UnitAttr:$init,
                       OptionalAttr<I64Attr>:$layer);
  let assemblyFormat = "(`init` $init^)? $kernel `(` $inputs `)` `to` `(` $outputs `)` (`layer` $layer^)? attr-dict `:` functional-type($inputs, $outputs)";
}

def Exec_CollectiveOp : Exec_Op<"collective", [HasParent<"ProgramOp">]> {
  let summary = "A collective, slice or copy from one buffer to another";
  let description = [{
    `payload` holds the sizes that program.json has for the operation: count, or outer, inner and total, and so on.

    * collective_c1: the operation is one of program.json's.
    * collective_c2: all but a copy have (mesh) axes, a copy has none.
  }];
  let arguments = (ins StrAttr:$kind, Exec_Buffer:$source, Exec_Buffer:$target,
                       OptionalAttr<ArrayAttr>:$axes, DictionaryAttr:$payload, UnitAttr:$init,
                       OptionalAttr<I64Attr>:$layer, OptionalAttr<StrAttr>:$origin, OptionalAttr<I64Attr>:$ticket);
  let assemblyFormat = "(`init` $init^)? (`start` $ticket^)? $kind $source `to` $target (`over` $axes^)? $payload (`layer` $layer^)? (`because` $origin^)? attr-dict `:` type($source) `to` type($target)";
  let hasVerifier = 1;
}

def Exec_WaitOp : Exec_Op<"wait", [HasParent<"ProgramOp">]> {
  let summary = "Completes the collective that was started with this ticket";
  let description = [{
    * wait_c1: the ticket is under way. Between start and wait nobody touches the target, nobody writes the source.
  }];
  let arguments = (ins I64Attr:$ticket);
  let assemblyFormat = "$ticket attr-dict";
}

def Exec_ZeroOp : Exec_Op<"zero", [HasParent<"ProgramOp">]> {
  let summary = "Zero bytes in a whole buffer: gaps of buckets, gradients before the first micro-batch";
  let arguments = (ins Exec_Buffer:$target);
  let assemblyFormat = "$target attr-dict `:` type($target)";
}

#endif // SHARDC_EXEC_TD
