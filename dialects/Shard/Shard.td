//===- Shard.td - The distribution: meshes, shardings, collectives -*- tablegen -*-===//

#ifndef SHARDC_SHARD_TD
#define SHARDC_SHARD_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "dialects/Graph/GraphDialect.td"
include "dialects/Shard/ShardInterfaces.td"

def Shard_Dialect : Dialect {
  let name = "shard";
  let cppNamespace = "::shardc::shard";
  let summary = "Device meshes, shardings of tensors, and the collectives between them";
  let description = [{
    Before Partition a program is global: tensors have their whole shape and `#shard.sharding` says how each is
    laid out. After it types are local and collectives explicit. Ideas: GSPMD (arXiv 2105.04663), Shardy.
    MLIR has an unrelated upstream dialect of the same name; they cannot be loaded together.
  }];
  let useDefaultAttributePrinterParser = 1;
  let extraClassDeclaration = [{
    /// Array of one sharding per result, on the op that defines the values.
    static constexpr ::llvm::StringLiteral kShardingsAttr = "shard.shardings";
    /// Sharding of a function argument or result, as argument or result attribute.
    static constexpr ::llvm::StringLiteral kShardingAttr = "shard.sharding";
    /// Unit attribute of a module whose types are local.
    static constexpr ::llvm::StringLiteral kPartitionedAttr = "shard.partitioned";
    /// Why a collective is there (dictionary) or where a value's axes come from (string), for `shardc explain`.
    static constexpr ::llvm::StringLiteral kOriginAttr = "shard.origin";
    /// State that an argument of an entry function reads, or a result writes: its name.
    static constexpr ::llvm::StringLiteral kStateAttr = "shard.state";
    /// Unit attribute of a collective that may run behind computation: Schedule starts it early or ends it late.
    static constexpr ::llvm::StringLiteral kOverlapAttr = "shard.overlap";
    /// Unit attributes of calls: a layer's backward part, and what makes its dropped values again. A gather for a backward part has the first too.
    static constexpr ::llvm::StringLiteral kBackwardAttr = "shard.backward";
    static constexpr ::llvm::StringLiteral kRecomputeAttr = "shard.recompute";
    /// The line of the plan that chose a parameter's sharding.
    static constexpr ::llvm::StringLiteral kPlanAttr = "shard.plan";
    /// What propagation could not give the tensors of an op: array of strings.
    static constexpr ::llvm::StringLiteral kConflictsAttr = "shard.conflicts";
  }];
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

def Shard_ReduceKind : I32EnumAttr<"ReduceKindAttrValue", "pending or collective reduction", [
    I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Max", 1, "max">, I32EnumAttrCase<"Min", 2, "min">,
    I32EnumAttrCase<"Prod", 3, "prod">]> {
  let cppNamespace = "::shardc::shard";
}

class Shard_Attr<string name, string attrMnemonic> : AttrDef<Shard_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Shard_AxisAttr : Shard_Attr<"Axis", "axis"> {
  let summary = "A mesh axis, or the part of it seen as pre x size x rest";
  let description = [{`"tp"` is the whole axis; `"tp":(2)4` the part of size 4 below the first 2.}];
  let parameters = (ins StringRefParameter<"axis name">:$name, "int64_t":$pre, "int64_t":$size);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{ bool isWhole() const { return getSize() == 0; } }];
}

def Shard_DimAttr : Shard_Attr<"Dim", "dim"> {
  let summary = "Axes over which one dimension is cut, major to minor";
  let description = [{`{"dp", "tp"}`; `?` at the end: propagation may append axes; `p1` behind: priority.}];
  let parameters = (ins ArrayRefParameter<"AxisAttr">:$axes, "bool":$open, "int64_t":$priority);
  let hasCustomAssemblyFormat = 1;
}

def Shard_ShardingAttr : Shard_Attr<"Sharding", "sharding"> {
  let summary = "How a tensor lies on a mesh";
  let description = [{
    One entry per dimension, and the axes along which the devices hold terms of a reduction still to be done.

    ```mlir
    #rows = #shard.sharding<@mesh, [{"tp"}, {} ]>
    #pending = #shard.sharding<@mesh, [{}, {} ], partial = sum {"dp_shard"}>
    ```
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$mesh, ArrayRefParameter<"DimAttr">:$dims,
                        "ReduceKindAttrValue":$partialKind, ArrayRefParameter<"AxisAttr">:$partial);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// Plain arithmetic form on a mesh; an error names what does not fit.
    ::shardc::Result<::shardc::Sharding> resolve(const ::shardc::Mesh &mesh) const;
    static ShardingAttr get(::mlir::FlatSymbolRefAttr symbol, const ::shardc::Mesh &mesh,
                            const ::shardc::Sharding &sharding);
  }];
}

//===----------------------------------------------------------------------===//
// Mesh
//===----------------------------------------------------------------------===//

def Shard_MeshOp : Op<Shard_Dialect, "mesh", [Symbol]> {
  let summary = "A grid of devices with named axes; ranks are row-major, the last axis varies fastest";
  let description = [{
    `bandwidth` (GB/s) and `latency` (microseconds) per axis are what the cost model uses.

    * mesh_c1: axis names are unique, sizes positive, one of each per axis.

    ```mlir
    shard.mesh @mesh ["dp" = 2, "tp" = 4]
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrArrayAttr:$axes, DenseI64ArrayAttr:$sizes,
                       OptionalAttr<DenseF64ArrayAttr>:$bandwidth, OptionalAttr<DenseF64ArrayAttr>:$latency);
  let assemblyFormat = "$sym_name custom<MeshAxes>($axes, $sizes) attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Plain arithmetic form.
    ::shardc::Mesh getMesh();
  }];
}

//===----------------------------------------------------------------------===//
// Global view
//===----------------------------------------------------------------------===//

class Shard_GlobalOp<string mnemonic> : Op<Shard_Dialect, mnemonic, [
    Pure, AllTypesMatch<["input", "result"]>, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
    DeclareOpInterfaceMethods<MeshEvaluateOpInterface>]> {
  let arguments = (ins Graph_Tensor:$input, Shard_ShardingAttr:$sharding);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` $sharding";
}

def Shard_ConstraintOp : Shard_GlobalOp<"constraint"> {
  let summary = "The value must have this sharding here (from a plan or a user)";
}

def Shard_ReshardOp : Shard_GlobalOp<"reshard"> {
  let summary = "The same tensor under another sharding; Partition plans the collectives";
}

//===----------------------------------------------------------------------===//
// Local view: collectives
//===----------------------------------------------------------------------===//

class Shard_Collective<string mnemonic, dag attrs, string format> : Op<Shard_Dialect, mnemonic, [
    Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
    DeclareOpInterfaceMethods<MeshEvaluateOpInterface>]> {
  let arguments = !con((ins Graph_Tensor:$input, FlatSymbolRefAttr:$mesh,
                            TypedArrayAttrBase<Shard_AxisAttr, "mesh axes">:$axes), attrs);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input `over` custom<Axes>($axes) `of` $mesh " # format # " attr-dict `:` type($input) `->` type($result)";
}

def Shard_AllGatherOp : Shard_Collective<"all_gather", (ins I64Attr:$dim), "`dim` $dim"> {
  let summary = "Concatenates the group's parts along dim, in order";
  let description = [{
    The result's size T may be below group x local size: trailing parts are then padding and dropped.

    * all_gather_c1: ceil(T / group) equals the input's size along dim.
    * all_gather_c2: other dimensions agree.
  }];
  let hasFolder = 1;
}

def Shard_AllReduceOp : Shard_Collective<"all_reduce", (ins Shard_ReduceKind:$kind), "$kind"> {
  let summary = "Reduces over the group; every member gets the result";
  let description = [{
    * all_reduce_c1: input and result have one type.
  }];
  let hasFolder = 1;
}

def Shard_ReduceScatterOp : Shard_Collective<"reduce_scatter", (ins Shard_ReduceKind:$kind, I64Attr:$dim), "$kind `dim` $dim"> {
  let summary = "Reduces over the group; member r keeps part r along dim";
  let description = [{
    * reduce_scatter_c1: the result's size along dim is ceil(input size / group).
    * reduce_scatter_c2: other dimensions agree.
  }];
  let hasFolder = 1;
}

def Shard_SliceOp : Shard_Collective<"slice", (ins I64Attr:$dim), "`dim` $dim"> {
  let summary = "Member r's part along dim of a replicated tensor, zero-padded; no communication";
  let description = [{
    * slice_c1: the result's size along dim is ceil(input size / group).
    * slice_c2: other dimensions agree.
  }];
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def Shard_AllToAllOp : Shard_Collective<"all_to_all",
    (ins I64Attr:$splitDim, I64Attr:$concatDim, I64Attr:$splitTotal, I64Attr:$concatTotal),
    "`split` $splitDim `total` $splitTotal `concat` $concatDim `total` $concatTotal"> {
  let summary = "Splits along one dimension and concatenates along another";
  let description = [{
    Before, the tensor is cut along concatDim (global size concatTotal); afterwards along splitDim (splitTotal).

    * all_to_all_c1: the input has splitTotal along splitDim and ceil(concatTotal / group) along concatDim.
    * all_to_all_c2: the result has ceil(splitTotal / group) along splitDim and concatTotal along concatDim.
    * all_to_all_c3: other dimensions agree.
  }];
}

def Shard_PermuteOp : Shard_Collective<"permute", (ins DenseI64ArrayAttr:$pairs), "$pairs"> {
  let summary = "Member pairs[2i] sends its tensor to member pairs[2i+1]; who receives nothing gets zeros";
  let description = [{
    * permute_c1: entries are inside the group, no source or target twice.
    * permute_c2: input and result have one type.
  }];
}

def Shard_BroadcastOp : Shard_Collective<"broadcast", (ins I64Attr:$root), "`root` $root"> {
  let summary = "Every member gets the root's tensor";
  let description = [{
    * broadcast_c1: the root is inside the group.
    * broadcast_c2: input and result have one type.
  }];
}

def Shard_AxisIndexOp : Op<Shard_Dialect, "axis_index", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>,
    DeclareOpInterfaceMethods<MeshEvaluateOpInterface>]> {
  let summary = "This device's index along the axes (first is major), as a scalar tensor";
  let arguments = (ins FlatSymbolRefAttr:$mesh, TypedArrayAttrBase<Shard_AxisAttr, "mesh axes">:$axes);
  let results = (outs Graph_TensorOf<I64, "i64">:$result);
  let assemblyFormat = "custom<Axes>($axes) `of` $mesh attr-dict `:` type($result)";
}

//===----------------------------------------------------------------------===//
// FSDP: flat buckets of parameters (docs/contracts.md §5.2)
//===----------------------------------------------------------------------===//

def Shard_BucketOp : Op<Shard_Dialect, "bucket", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Parameters of one unit that live in one flat buffer";
  let description = [{
    `length`: elements of the whole buffer of one tensor-parallel rank; member r of the group along `axes` holds part r. Each item is a dictionary:
    `tensor`, `offset` (elements), `type` (global, of the segment), `segment` ([dim, offset, size]) and `sharding` where there are such.

    * bucket_c1: the group's size times 64 divides the length.
    * bucket_c2: every item lies inside the bucket, behind the one before.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$unit, TypeAttr:$element, I64Attr:$length, FlatSymbolRefAttr:$mesh,
                       TypedArrayAttrBase<Shard_AxisAttr, "mesh axes">:$axes, DictArrayAttr:$items);
  let assemblyFormat = "$sym_name $unit $element `length` $length `over` custom<Axes>($axes) `of` $mesh $items attr-dict";
}

def Shard_StateOp : Op<Shard_Dialect, "state", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "A buffer that stays between runs of the entries, which take and give it by name";
  let description = [{
    `shard.state = "NAME"` on an argument of an entry reads it, on a result writes it. Roles: parameter, exp_avg, exp_avg_sq, momentum, gradient,
    compute_parameter, scalar. With a bucket it has its length, or, `over` axes, this device's part of it.

    * state_c1: the role is one of these.
    * state_c2: the axes are the first ones of the bucket's.
    * state_c3: a bucket's state has as many elements as the bucket, or its part.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$role, TypeAttr:$type, OptionalAttr<FlatSymbolRefAttr>:$bucket,
                       DefaultValuedAttr<TypedArrayAttrBase<Shard_AxisAttr, "mesh axes">, "{}">:$axes);
  let assemblyFormat = "$sym_name $role $type (`of` $bucket^ custom<OptionalAxes>($axes))? attr-dict";
}

def Shard_BucketViewOp : Op<Shard_Dialect, "bucket_view", [Pure, DeclareOpInterfaceMethods<MeshEvaluateOpInterface>]> {
  let summary = "A tensor inside of a flat buffer, without a copy";
  let description = [{
    * bucket_view_c1: the tensor lies inside the buffer and has its element type.
  }];
  let arguments = (ins Graph_Tensor:$input, I64Attr:$offset);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input `at` $offset attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Shard_BucketPackOp : Op<Shard_Dialect, "bucket_pack", [Pure, DeclareOpInterfaceMethods<MeshEvaluateOpInterface>]> {
  let summary = "A flat buffer with tensors at their offsets, zero elsewhere; who makes the tensors writes them in place";
  let description = [{
    * bucket_pack_c1: one offset for each tensor, in increasing order; they do not overlap and lie inside.
    * bucket_pack_c2: all have the buffer's element type.
  }];
  let arguments = (ins Variadic<Graph_Tensor>:$inputs, DenseI64ArrayAttr:$offsets);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$inputs `at` $offsets attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
}

#endif // SHARDC_SHARD_TD
