//===- GraphShape.td - Sources, views and data movement ----*- tablegen -*-===//

#ifndef SHARDC_GRAPH_SHAPE_TD
#define SHARDC_GRAPH_SHAPE_TD

include "dialects/Graph/GraphDialect.td"

// An op that only says where an element of its result comes from.
class Graph_Movement<string mnemonic, list<Trait> traits = []> : Graph_Op<mnemonic,
    !listconcat(traits, [
      DeclareOpInterfaceMethods<CostOpInterface, ["getCost"]>, Graph_DerivativeMethods,
      DeclareOpInterfaceMethods<LoweringOpInterface, ["getLoweringClass", "emitElement"]>])>, Graph_Derivative {
  let extraClassDefinition = vjpNeeds # [{
    ::shardc::graph::LoweringClass $cppClass::getLoweringClass() {
      return ::shardc::graph::LoweringClass::Element;
    }
    ::shardc::OpCost $cppClass::getCost() {
      return ::shardc::graph::detail::elementwiseCost(getOperation(), 0);
    }
  }];
}

//===----------------------------------------------------------------------===//
// Sources
//===----------------------------------------------------------------------===//

def Graph_ParameterOp : Graph_Op<"parameter", [
    DeclareOpInterfaceMethods<LoweringOpInterface, ["getLoweringClass"]>]> {
  let summary = "A weight of the model, under its own name and in its own orientation";
  let description = [{
    Its values are looked up by name in a weight store; `value` holds them inline in small tests. `segment`
    = [dim, offset, size] is a piece of a packed weight (the q of a fused qkv): names and checkpoints stay whole.

    After Partition the result is local; segment and value stay global, with `graph.global_type` as their type.

    * parameter_c1: the segment lies inside its dimension.
    * parameter_c2: an inline value has the (global) type.

    ```mlir
    %w = graph.parameter "model.layers.0.self_attn.q_proj.weight" : tensor<64x64xf32>
    %q = graph.parameter "h.0.attn.c_attn.weight" segment [1, 0, 64] of 192 : tensor<64x64xf32>
    ```
  }];
  let arguments = (ins StrAttr:$name, OptionalAttr<DenseI64ArrayAttr>:$segment,
                       OptionalAttr<I64Attr>:$whole, OptionalAttr<ElementsAttr>:$value);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$name (`segment` $segment^ `of` $whole)? attr-dict `:` type($result)";
  let builders = [OpBuilder<(ins "::mlir::Type":$type, "::llvm::StringRef":$name), [{
    build($_builder, $_state, type, $_builder.getStringAttr(name), nullptr, nullptr, nullptr);
  }]>];
  let extraClassDeclaration = [{
    /// Type before partitioning.
    ::mlir::RankedTensorType getGlobalType();
    /// Type of the stored tensor, of which this may be a segment.
    ::mlir::RankedTensorType getStoredType();
  }];
  let hasVerifier = 1;
}

def Graph_ConstantOp : Graph_Op<"constant", [ConstantLike, AllTypesMatch<["value", "result"]>,
    DeclareOpInterfaceMethods<LoweringOpInterface, ["getLoweringClass", "emitElement"]>]> {
  let summary = "A tensor known at compile time";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "attr-dict $value";
  let hasFolder = 1;
  let builders = [OpBuilder<(ins "::mlir::ElementsAttr":$value), [{
    build($_builder, $_state, value.getType(), value);
  }]>];
  let extraClassDeclaration = [{
    /// A constant of `type` with every element `value` (converted to the element type).
    static ConstantOp splat(::mlir::OpBuilder &b, ::mlir::Location loc, ::mlir::RankedTensorType type, double value);
  }];
}

def Graph_IotaOp : Graph_Movement<"iota", [DeclareOpInterfaceMethods<LocalizeOpInterface>]> {
  let summary = "Index along a dimension";
  let description = [{`%i = graph.iota dim 1 : tensor<2x4xi64>` holds the column number everywhere.}];
  let arguments = (ins I64Attr:$dim);
  let results = (outs Graph_NumberTensor:$result);
  let assemblyFormat = "`dim` $dim attr-dict `:` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Views and movement
//===----------------------------------------------------------------------===//

class Graph_UnaryMovement<string mnemonic, dag attrs> : Graph_Movement<mnemonic> {
  let arguments = !con((ins Graph_Tensor:$input), attrs);
  let results = (outs Graph_Tensor:$result);
  let hasVerifier = 1;
}

def Graph_ReshapeOp : Graph_UnaryMovement<"reshape", (ins)> {
  let summary = "Same elements in row-major order under another shape";
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def Graph_TransposeOp : Graph_UnaryMovement<"transpose", (ins DenseI64ArrayAttr:$permutation)> {
  let summary = "Dimension i of the result is dimension permutation[i] of the input";
  let assemblyFormat = "$input $permutation attr-dict `:` type($input) `->` type($result)";
  let builders = [OpBuilder<(ins "::mlir::Value":$input, "::llvm::ArrayRef<int64_t>":$permutation)>];
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def Graph_BroadcastOp : Graph_UnaryMovement<"broadcast", (ins DenseI64ArrayAttr:$dims)> {
  let summary = "Repetition along new or size-one dimensions";
  let description = [{
    Dimension i of the input is dimension dims[i] of the result (dims strictly increasing); it has that
    dimension's size, or 1.

    ```mlir
    %b = graph.broadcast %w [2] : tensor<64xf32> -> tensor<2x16x64xf32>
    ```
  }];
  let assemblyFormat = "$input $dims attr-dict `:` type($input) `->` type($result)";
  let hasFolder = 1;
}

def Graph_SliceOp : Graph_UnaryMovement<"slice", (ins DenseI64ArrayAttr:$starts, DenseI64ArrayAttr:$strides)> {
  let summary = "Elements starts[d] + i * strides[d], as many as the result has; strides are positive";
  let assemblyFormat = "$input $starts `step` $strides attr-dict `:` type($input) `->` type($result)";
  let hasFolder = 1;
}

def Graph_ReverseOp : Graph_UnaryMovement<"reverse", (ins DenseI64ArrayAttr:$dims)> {
  let summary = "Reversed order along dims";
  let assemblyFormat = "$input $dims attr-dict `:` type($input) `->` type($result)";
}

def Graph_PadOp : Graph_UnaryMovement<"pad", (ins DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high, TypedAttrInterface:$padding)> {
  let summary = "Constant border; low and high are not negative";
  let assemblyFormat = "$input `low` $low `high` $high `with` $padding attr-dict `:` type($input) `->` type($result)";
}

def Graph_ConcatOp : Graph_Movement<"concat"> {
  let summary = "Concatenation along one dimension";
  let arguments = (ins Variadic<Graph_Tensor>:$inputs, I64Attr:$dim);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$inputs `dim` $dim attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_GatherOp : Graph_Movement<"gather", [DeclareOpInterfaceMethods<LocalizeOpInterface>]> {
  let summary = "Slices of `data` along one axis, chosen by indices: embedding lookup, take";
  let description = [{
    result[a..., i..., b...] = data[a..., indices[i...], b...] with `a` the dimensions before the axis.
    An index outside [0, n) yields zeros: what a vocabulary-sharded embedding needs before its sum.

    ```mlir
    %e = graph.gather %table, %ids axis 0 : tensor<256x64xf32>, tensor<2x16xi64> -> tensor<2x16x64xf32>
    ```
  }];
  let arguments = (ins Graph_Tensor:$data, Graph_IntTensor:$indices, I64Attr:$axis);
  let results = (outs Graph_Tensor:$result);
  let vjpOperands = [1];
  let assemblyFormat = "$data `,` $indices `axis` $axis attr-dict `:` type($data) `,` type($indices) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_GatherNdOp : Graph_Movement<"gather_nd"> {
  let summary = "Elements or slices of `data` at index tuples (ONNX GatherND)";
  let description = [{
    With b = batchDims and m = last dimension of indices: result[B..., i..., s...] = data[B..., indices[B..., i..., :]..., s...].
    An index out of range yields zeros.
  }];
  let arguments = (ins Graph_Tensor:$data, Graph_IntTensor:$indices, I64Attr:$batchDims);
  let results = (outs Graph_Tensor:$result);
  let vjpOperands = [1];
  let assemblyFormat = "$data `,` $indices `batch` $batchDims attr-dict `:` type($data) `,` type($indices) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_GatherElementsOp : Graph_Movement<"gather_elements"> {
  let summary = "result[.., i, ..] = data[.., indices[.., i, ..], ..] along axis (ONNX GatherElements)";
  let arguments = (ins Graph_Tensor:$data, Graph_IntTensor:$indices, I64Attr:$axis);
  let results = (outs Graph_Tensor:$result);
  let vjpOperands = [1];
  let assemblyFormat = "$data `,` $indices `axis` $axis attr-dict `:` type($data) `,` type($indices) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_Combine : I32EnumAttr<"Combine", "how two values at one place combine", [
    I32EnumAttrCase<"Replace", 0, "replace">, I32EnumAttrCase<"Sum", 1, "sum">, I32EnumAttrCase<"Prod", 2, "prod">,
    I32EnumAttrCase<"Max", 3, "max">, I32EnumAttrCase<"Min", 4, "min">]> {
  let cppNamespace = "::shardc::graph";
}

// What the derivative reads depends on `combine`: GraphDerivativeScatter.cpp.
class Graph_Scatter<string mnemonic, dag attrs, string extra> : Graph_Op<mnemonic, [
    Graph_DerivativeMethods, DeclareOpInterfaceMethods<LoweringOpInterface>, AllTypesMatch<["data", "result"]>]> {
  let arguments = !con((ins Graph_Tensor:$data, Graph_IntTensor:$indices, Graph_Tensor:$updates), attrs,
                       (ins Graph_Combine:$combine));
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$combine $data `,` $indices `,` $updates " # extra #
                       " attr-dict `:` type($data) `,` type($indices) `,` type($updates)";
  let hasVerifier = 1;
}

def Graph_ScatterElementsOp : Graph_Scatter<"scatter_elements", (ins I64Attr:$axis), "`axis` $axis"> {
  let summary = "A copy of data with updates put at indices along axis, in row-major order (ONNX ScatterElements); out of range: dropped";
}

def Graph_ScatterNdOp : Graph_Scatter<"scatter_nd", (ins), ""> {
  let summary = "A copy of data with updates put at index tuples, in row-major order (ONNX ScatterND); out of range: dropped";
}

def Graph_ScatterSumOp : Graph_Op<"scatter_sum", [
    DeclareOpInterfaceMethods<LocalizeOpInterface>, DeclareOpInterfaceMethods<CostOpInterface, ["getCost"]>,
    Graph_DerivativeMethods, DeclareOpInterfaceMethods<LoweringOpInterface>]>, Graph_Derivative {
  let summary = "Sums of the slices of `updates` with one index: the transpose of gather, and an embedding's gradient";
  let description = [{
    result[a..., v, b...] = sum of updates[a..., i..., b...] over the places i with indices[i...] = v; `a` are the
    dimensions before the axis. What has an index outside [0, n) is dropped.

    There is no operand that it adds to, unlike in the other scatters: so devices with a part of the updates each
    hold a pending sum, and devices with a part of the rows take the updates that are theirs.

    * scatter_sum_c1: updates' shape is the result's with the axis replaced by the shape of indices.

    ```mlir
    %dtable = graph.scatter_sum %dy at %ids axis 0 : tensor<2x16x64xf32>, tensor<2x16xi64> -> tensor<256x64xf32>
    ```
  }];
  let arguments = (ins Graph_NumberTensor:$updates, Graph_IntTensor:$indices, I64Attr:$axis);
  let results = (outs Graph_NumberTensor:$result);
  let vjpOperands = [1];
  let extraClassDefinition = vjpNeeds;
  let assemblyFormat = "$updates `at` $indices `axis` $axis attr-dict `:` type($updates) `,` type($indices) `->` type($result)";
  let hasVerifier = 1;
}

#endif // SHARDC_GRAPH_SHAPE_TD
