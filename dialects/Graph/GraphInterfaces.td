//===- GraphInterfaces.td - What every op must say about itself -*- tablegen -*-===//
//
// Ops of `graph` differ through these interfaces, never through switches in passes. A new op that
// implements all five works in every stage.
//
//===----------------------------------------------------------------------===//

#ifndef SHARDC_GRAPH_INTERFACES_TD
#define SHARDC_GRAPH_INTERFACES_TD

include "mlir/IR/OpBase.td"

def ShardingRuleOpInterface : OpInterface<"ShardingRuleOpInterface"> {
  let cppNamespace = "::shardc::graph";
  let description = [{
    The factors of the op: each tensor dimension maps to an ordered list of factors (major to minor).
    Idea: GSPMD (arXiv 2105.04663), Shardy's op sharding rules.
  }];
  let methods = [
    InterfaceMethod<"Factors of this op; operand and result order as in the op.",
                    "::shardc::ShardingRule", "getShardingRule", (ins)>,
  ];
}

def LocalizeOpInterface : OpInterface<"LocalizeOpInterface"> {
  let cppNamespace = "::shardc::graph";
  let description = [{
    What one device computes of an op, for ops that hold an absolute position or a size in an attribute or
    operand. Without it the local op is the same op with local types.
  }];
  let methods = [
    InterfaceMethod<"Local results for local operands.", "::llvm::SmallVector<::mlir::Value>", "buildLocal",
                    (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$operands,
                         "::mlir::TypeRange":$resultTypes, "::shardc::graph::LocalPart &":$part)>,
  ];
}

def EvaluateOpInterface : OpInterface<"EvaluateOpInterface"> {
  let cppNamespace = "::shardc::graph";
  let description = [{
    Reference evaluation: slow, obvious, in double precision (or int64), rounded once to the result's
    element type. The interpreter and the constant folder run it.
  }];
  let methods = [
    InterfaceMethod<"Results for the operand values; failure emits a diagnostic on the op.",
                    "::mlir::FailureOr<::llvm::SmallVector<::shardc::HostTensor>>", "evaluate",
                    (ins "::llvm::ArrayRef<::shardc::HostTensor>":$operands)>,
  ];
}

def CostOpInterface : OpInterface<"CostOpInterface"> {
  let cppNamespace = "::shardc::graph";
  let description = [{Arithmetic and memory traffic of one execution with the op's (local) types.}];
  let methods = [
    InterfaceMethod<"FLOPs and bytes read and written.", "::shardc::OpCost", "getCost", (ins), [{}],
                    [{ return ::shardc::graph::detail::elementwiseCost($_op.getOperation(), 1); }]>,
  ];
}

def DerivativeOpInterface : OpInterface<"DerivativeOpInterface"> {
  let cppNamespace = "::shardc::graph";
  let description = [{
    Vector-Jacobian product. `buildVJP` receives the cotangent of each result (null where it is zero, but not all of
    them are) and returns one cotangent per operand (null where none flows: integer operands, zero derivative), of the
    operand's type. It builds `graph` ops on the global program, which propagation then shards, out of the op's
    operands and results. What it may read of these, `needsOperand` and `needsResult` say: no more, and all of it if
    every cotangent is wanted.
  }];
  let methods = [
    InterfaceMethod<"Builds the cotangents of the operands; failure emits a diagnostic: not differentiable.",
                    "::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>", "buildVJP",
                    (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$cotangents)>,
    InterfaceMethod<"Whether the VJP reads operand `index`.", "bool", "needsOperand", (ins "unsigned":$index)>,
    InterfaceMethod<"Whether the VJP reads result `index`.", "bool", "needsResult", (ins "unsigned":$index)>,
  ];
}

def LoweringOpInterface : OpInterface<"LoweringOpInterface"> {
  let cppNamespace = "::shardc::graph";
  let description = [{
    How the op becomes code. An op of class `Element` gives one scalar of its result at given indices
    (an index lambda, as in XLA's elemental emitter): Fuse composes those without intermediate buffers and
    Lower wraps them in loops. `Row` ops reduce or normalise along dimensions. `Library` ops have a
    generated kernel of their own (contraction, attention). `Loops` ops fill whole buffers.
  }];
  let methods = [
    InterfaceMethod<"Class of lowering.", "::shardc::graph::LoweringClass", "getLoweringClass", (ins),
                    [{}], [{ return ::shardc::graph::LoweringClass::Loops; }]>,
    InterfaceMethod<"One scalar of the (single) result at `indices` (index-typed values).",
                    "::mlir::Value", "emitElement",
                    (ins "::shardc::graph::ElementEmitter &":$emitter,
                         "::llvm::ArrayRef<::mlir::Value>":$indices), [{}],
                    [{ return ::mlir::Value(); }]>,
  ];
}

#endif // SHARDC_GRAPH_INTERFACES_TD
