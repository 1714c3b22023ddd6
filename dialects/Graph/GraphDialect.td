//===- GraphDialect.td - The mathematics -------------------*- tablegen -*-===//

#ifndef SHARDC_GRAPH_DIALECT_TD
#define SHARDC_GRAPH_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "dialects/Graph/GraphInterfaces.td"

def Graph_Dialect : Dialect {
  let name = "graph";
  let cppNamespace = "::shardc::graph";
  let summary = "Tensor mathematics of transformer graphs, with value semantics";
  let description = [{
    About eighty ops on static ranked tensors. Broadcasts are explicit, contractions are one op
    (`graph.einsum`), and what differs between ops (sharding rule, derivative, cost, reference evaluation,
    lowering) is said through interfaces.
  }];
  let hasConstantMaterializer = 1;
  let extraClassDeclaration = [{
    /// Name of a model input or output, on arguments and results of the entry function.
    static constexpr ::llvm::StringLiteral kNameAttr = "graph.name";
    /// Module path of an op, as the exporter recorded it.
    static constexpr ::llvm::StringLiteral kPathAttr = "graph.path";
    /// After Partition, the unpartitioned type (TypeAttr) of a parameter op, or of an argument or result of the
    /// entry function: a padded local shape does not say how many rows there are in all.
    static constexpr ::llvm::StringLiteral kGlobalTypeAttr = "graph.global_type";
    /// What a weight is for (a string such as "q_proj"), on the op that uses it.
    static constexpr ::llvm::StringLiteral kRoleAttr = "graph.role";
    /// On a layer function, the list of layers that it is of; on its argument, the name of the parameter that comes in.
    static constexpr ::llvm::StringLiteral kLayerAttr = "graph.layer";
    static constexpr ::llvm::StringLiteral kParameterAttr = "graph.parameter";
    /// Result of a differentiated function: the weight (and [dim, offset, size] of its segment) whose gradient it is.
    static constexpr ::llvm::StringLiteral kGradientAttr = "graph.gradient";
    static constexpr ::llvm::StringLiteral kSegmentAttr = "graph.segment";
    /// Number of tokens that labels choose from, on a differentiated function.
    static constexpr ::llvm::StringLiteral kVocabularyAttr = "graph.vocabulary";
  }];
}

// Any element type that an exported transformer uses; signed integers are signless. 8-bit floats are a form to store and
// multiply in: they are moved, compared, cast and contracted, and there is no other arithmetic on them.
def Graph_Float : AnyTypeOf<[F64, F32, F16, BF16], "float">;
def Graph_Float8 : AnyTypeOf<[F8E4M3FN, F8E5M2], "8-bit float">;
def Graph_Int : AnyTypeOf<[I64, I32, I16, I8, UI64, UI32, UI16, UI8], "integer">;
def Graph_Element : AnyTypeOf<[Graph_Float, Graph_Float8, Graph_Int, I1], "tensor element">;

class Graph_TensorOf<Type element, string what> :
    ConfinedType<RankedTensorOf<[element]>, [HasStaticShapePred], "static " # what # " tensor",
                 "::mlir::RankedTensorType">;
def Graph_Tensor : Graph_TensorOf<Graph_Element, "ranked">;
def Graph_FloatTensor : Graph_TensorOf<Graph_Float, "float">;
def Graph_Float8Tensor : Graph_TensorOf<Graph_Float8, "8-bit float">;
def Graph_IntTensor : Graph_TensorOf<Graph_Int, "integer">;
def Graph_NumberTensor : Graph_TensorOf<AnyTypeOf<[Graph_Float, Graph_Int]>, "number">;
def Graph_BitsTensor : Graph_TensorOf<AnyTypeOf<[Graph_Int, I1]>, "integer or bool">;
def Graph_BoolTensor : Graph_TensorOf<I1, "bool">;
def Graph_ScaleTensor : Graph_TensorOf<F32, "f32">;

class Graph_Op<string mnemonic, list<Trait> traits = []> : Op<Graph_Dialect, mnemonic,
    !listconcat(traits, [Pure,
      DeclareOpInterfaceMethods<ShardingRuleOpInterface>,
      DeclareOpInterfaceMethods<EvaluateOpInterface>])>;

def Graph_DerivativeMethods
    : DeclareOpInterfaceMethods<DerivativeOpInterface, ["buildVJP", "needsOperand", "needsResult"]>;

// An op with a vector-Jacobian product, and what that reads: operands by their number in `arguments`, results by their
// number. buildVJP is C++ (GraphDerivative*.cpp).
class Graph_Derivative {
  list<int> vjpOperands = [];
  list<int> vjpResults = [];
  code vjpNeeds = [{
    bool $cppClass::needsOperand(unsigned index) {
      return ::shardc::graph::detail::isInSegments(*this, index, {}] # !interleave(vjpOperands, ", ") # [{});
    }
    bool $cppClass::needsResult(unsigned index) {
      return ::llvm::is_contained(::llvm::ArrayRef<unsigned>({}] # !interleave(vjpResults, ", ") # [{}), index);
    }
  }];
}

#endif // SHARDC_GRAPH_DIALECT_TD
