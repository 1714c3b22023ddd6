//===- GraphMath.td - Contractions, reductions, normalisation, attention -*- tablegen -*-===//

#ifndef SHARDC_GRAPH_MATH_TD
#define SHARDC_GRAPH_MATH_TD

include "dialects/Graph/GraphDialect.td"

class Graph_MathOp<string mnemonic, string lowering, list<Trait> traits = []> : Graph_Op<mnemonic,
    !listconcat(traits, [
      DeclareOpInterfaceMethods<CostOpInterface, ["getCost"]>, Graph_DerivativeMethods,
      DeclareOpInterfaceMethods<LoweringOpInterface, ["getLoweringClass"]>])>, Graph_Derivative {
  let extraClassDefinition = vjpNeeds # [{
    ::shardc::graph::LoweringClass $cppClass::getLoweringClass() {
      return ::shardc::graph::LoweringClass::}] # lowering # [{;
    }
  }];
}

//===----------------------------------------------------------------------===//
// Contraction
//===----------------------------------------------------------------------===//

def Graph_FactorTensor : Graph_TensorOf<AnyTypeOf<[Graph_Float, Graph_Float8, Graph_Int]>, "number">;

def Graph_EinsumOp : Graph_MathOp<"einsum", "Library"> {
  let summary = "Contraction of two tensors: every matrix product, batched and transposed";
  let description = [{
    Letters name factors; a letter missing in the result is summed over. Float products of 16-bit types
    accumulate in f32 and round once.

    * einsum_c1: one letter per dimension, no letter twice in one operand.
    * einsum_c2: a letter has one size everywhere.
    * einsum_c3: every letter of the result is in an operand.
    * einsum_c4: operands and result have one element type; or the operands are 8-bit floats, and the result is f32.

    ```mlir
    %y = graph.einsum "bsk,nk->bsn" %x, %w : tensor<2x16x64xf32>, tensor<32x64xf32> -> tensor<2x16x32xf32>
    ```
  }];
  let arguments = (ins StrAttr:$spec, Graph_FactorTensor:$lhs, Graph_FactorTensor:$rhs);
  let results = (outs Graph_NumberTensor:$result);
  let vjpOperands = [0, 1];
  let assemblyFormat = "$spec $lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)";
  let hasVerifier = 1;
  let hasCanonicalizer = 1;
  let extraClassDeclaration = [{
    using Letters = ::shardc::graph::EinsumLetters;
    Letters getLetters() { return Letters::of(getSpec()); }
    /// Size of the factor a letter names.
    int64_t getLetterSize(char letter);
  }];
}

def Graph_ScaledEinsumOp : Graph_MathOp<"scaled_einsum", "Library"> {
  let summary = "Contraction of two tensors of 8-bit floats, each with what its unit is worth";
  let description = [{
    result = lhsScale * rhsScale * einsum(lhs, rhs), summed and multiplied in f32, rounded once to the result's type. Letters as in
    `graph.einsum`. It is linear, so that a sum over devices is pending on the rounded result, as that of a 16-bit product. For the derivative lhs and rhs are the values before
    they were quantized; the cotangent is quantized to the type `gradient` with a scale of its own.

    * scaled_einsum_c1: the letters are right for `graph.einsum`.
    * scaled_einsum_c2: a scale has rank 0.
    * scaled_einsum_c3: `gradient` is an 8-bit float.

    ```mlir
    %y = graph.scaled_einsum "bsk,nk->bsn" %x, %w scales %sx, %sw {gradient = f8E5M2}
        : tensor<2x16x64xf8E4M3FN>, tensor<32x64xf8E4M3FN>, tensor<f32>, tensor<f32> -> tensor<2x16x32xbf16>
    ```
  }];
  let arguments = (ins StrAttr:$spec, Graph_Float8Tensor:$lhs, Graph_Float8Tensor:$rhs, Graph_ScaleTensor:$lhsScale,
                       Graph_ScaleTensor:$rhsScale, TypeAttr:$gradient);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1, 2, 3];
  let assemblyFormat = "$spec $lhs `,` $rhs `scales` $lhsScale `,` $rhsScale attr-dict `:` type($lhs) `,` type($rhs) `,` type($lhsScale) `,` type($rhsScale) `->` type($result)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::shardc::graph::EinsumLetters getLetters() { return ::shardc::graph::EinsumLetters::of(getSpec()); }
    /// Size of the factor a letter names.
    int64_t getLetterSize(char letter);
  }];
}

def Graph_GroupedMatmulOp : Graph_MathOp<"grouped_matmul", "Library", [DeclareOpInterfaceMethods<LocalizeOpInterface>]> {
  let summary = "Each row multiplied by the matrix of its group: mixture-of-experts product";
  let description = [{
    result[t, n] = sum_k x[t, k] * w[groups[t], n, k]. Groups outside [0, E) give zero rows (an expert of another rank).

    With `blocks` = B rows and experts are B equal blocks, and a row has the experts of its own block only: another block's gives a zero row.
    Blocks of rows and experts can so be cut together (expert parallelism, `ep_dispatch_experts`). A device's op has one block.

    ```mlir
    %y = graph.grouped_matmul %x, %w by %g {blocks = 2 : i64} : tensor<8x4xf32>, tensor<6x5x4xf32>, tensor<8xi64> -> tensor<8x5xf32>
    ```

    * grouped_matmul_c1: blocks is at least 1 and divides rows and experts.
  }];
  let arguments = (ins Graph_FloatTensor:$input, Graph_FloatTensor:$weight, Graph_IntTensor:$groups, DefaultValuedAttr<I64Attr, "1">:$blocks);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1, 2];
  let assemblyFormat = "$input `,` $weight `by` $groups attr-dict `:` type($input) `,` type($weight) `,` type($groups) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_GroupedMatmulGradOp : Graph_MathOp<"grouped_matmul_grad", "Library", [DeclareOpInterfaceMethods<LocalizeOpInterface>]> {
  let summary = "Gradient of grouped_matmul's weight: each group's rows contracted with their cotangents";
  let description = [{
    result[e, n, k] = sum over rows t with groups[t] = e of cotangent[t, n] * input[t, k]. Rows of groups outside
    [0, E) are left out, as grouped_matmul leaves them zero; so are, with `blocks`, those of other blocks' experts.

    ```mlir
    %dw = graph.grouped_matmul_grad %x, %dy by %g : tensor<8x4xf32>, tensor<8x6xf32>, tensor<8xi64> -> tensor<3x6x4xf32>
    ```

    * grouped_matmul_grad_c1: blocks is at least 1 and divides rows and experts.
  }];
  let arguments = (ins Graph_FloatTensor:$input, Graph_FloatTensor:$cotangent, Graph_IntTensor:$groups, DefaultValuedAttr<I64Attr, "1">:$blocks);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1, 2];
  let assemblyFormat = "$input `,` $cotangent `by` $groups attr-dict `:` type($input) `,` type($cotangent) `,` type($groups) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_ConvOp : Graph_MathOp<"conv", "Loops", [DeclareOpInterfaceMethods<LocalizeOpInterface>]> {
  let summary = "N-dimensional convolution [N, C, spatial...] with weight [O, C/group, spatial...]";
  let arguments = (ins Graph_FloatTensor:$input, Graph_FloatTensor:$weight, DenseI64ArrayAttr:$strides,
                       DenseI64ArrayAttr:$padLow, DenseI64ArrayAttr:$padHigh, DenseI64ArrayAttr:$dilations, I64Attr:$group);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1];
  let assemblyFormat = "$input `,` $weight attr-dict `:` type($input) `,` type($weight) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Reductions and scans
//===----------------------------------------------------------------------===//

def Graph_Reduction : I32EnumAttr<"Reduction", "reduction", [
    I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Prod", 1, "prod">, I32EnumAttrCase<"Max", 2, "max">,
    I32EnumAttrCase<"Min", 3, "min">, I32EnumAttrCase<"And", 4, "and">, I32EnumAttrCase<"Or", 5, "or">]> {
  let cppNamespace = "::shardc::graph";
}

def Graph_ReduceOp : Graph_MathOp<"reduce", "Row"> {
  let summary = "Reduction over dims, which disappear; max and min keep NaN; 16-bit floats accumulate in f32";
  let description = [{`%s = graph.reduce sum %x [1] : tensor<4x8xf32> -> tensor<4xf32>`. An empty dimension gives the neutral value.}];
  let arguments = (ins Graph_Reduction:$kind, Graph_Tensor:$input, DenseI64ArrayAttr:$dims);
  let results = (outs Graph_Tensor:$result);
  let vjpNeeds = ""; // by kind: GraphDerivativeMath.cpp
  let assemblyFormat = "$kind $input $dims attr-dict `:` type($input) `->` type($result)";
  let builders = [OpBuilder<(ins "::shardc::graph::Reduction":$kind, "::mlir::Value":$input, "::llvm::ArrayRef<int64_t>":$dims)>];
  let hasVerifier = 1;
}

def Graph_ArgReduceOp : Graph_MathOp<"arg_reduce", "Loops"> {
  let summary = "Index of the first (or last) maximum or minimum along dim, which disappears";
  let arguments = (ins BoolAttr:$largest, Graph_NumberTensor:$input, I64Attr:$dim, BoolAttr:$last);
  let results = (outs Graph_IntTensor:$result);
  let assemblyFormat = "$input `dim` $dim `largest` $largest `last` $last attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_CumsumOp : Graph_MathOp<"cumsum", "Loops", [AllTypesMatch<["input", "result"]>]> {
  let summary = "Running sum along dim";
  let arguments = (ins Graph_NumberTensor:$input, I64Attr:$dim, DefaultValuedAttr<BoolAttr, "false">:$exclusive,
                       DefaultValuedAttr<BoolAttr, "false">:$reverse);
  let results = (outs Graph_NumberTensor:$result);
  let assemblyFormat = "$input `dim` $dim attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def Graph_TopKOp : Graph_MathOp<"topk", "Loops"> {
  let summary = "The k largest (smallest) along dim, sorted, with indices; ties go to the lower index";
  let arguments = (ins Graph_NumberTensor:$input, I64Attr:$dim, BoolAttr:$largest);
  let results = (outs Graph_NumberTensor:$values, Graph_IntTensor:$indices);
  let vjpResults = [1];
  let assemblyFormat = "$input `dim` $dim `largest` $largest attr-dict `:` type($input) `->` type($values) `,` type($indices)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Normalisation
//===----------------------------------------------------------------------===//

def Graph_SoftmaxOp : Graph_MathOp<"softmax", "Row", [SameOperandsAndResultType]> {
  let summary = "exp(x - max) / sum along dim; a row that is all -inf gives NaN, as the formula says";
  let arguments = (ins Graph_FloatTensor:$input, I64Attr:$dim);
  let results = (outs Graph_FloatTensor:$result);
  let vjpResults = [0];
  let assemblyFormat = "$input `dim` $dim attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def Graph_RmsNormOp : Graph_MathOp<"rms_norm", "Row", [AllTypesMatch<["input", "result"]>]> {
  let summary = "x * rsqrt(mean(x^2) + epsilon), over the last `normDims` dimensions, times weight if there is one";
  let description = [{Statistics are f32 (f64 for f64). Zhang and Sennrich 2019. weight has the last normDims dimensions' shape.}];
  let arguments = (ins Graph_FloatTensor:$input, Optional<Graph_FloatTensor>:$weight, F64Attr:$epsilon,
                       DefaultValuedAttr<I64Attr, "1">:$normDims);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1];
  let assemblyFormat = "$input (`,` $weight^ `:` type($weight))? `epsilon` $epsilon attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def Graph_LayerNormOp : Graph_MathOp<"layer_norm", "Row", [AllTypesMatch<["input", "result"]>, AttrSizedOperandSegments]> {
  let summary = "(x - mean) * rsqrt(variance + epsilon) over the last `normDims` dimensions, times weight plus bias if present";
  let arguments = (ins Graph_FloatTensor:$input, Optional<Graph_FloatTensor>:$weight, Optional<Graph_FloatTensor>:$bias,
                       F64Attr:$epsilon, DefaultValuedAttr<I64Attr, "1">:$normDims);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1];
  let assemblyFormat = "$input (`weight` $weight^ `:` type($weight))? (`bias` $bias^ `:` type($bias))? `epsilon` $epsilon attr-dict `:` type($input)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Transformer blocks
//===----------------------------------------------------------------------===//

def Graph_RopeOp : Graph_MathOp<"rope", "Element", [AllTypesMatch<["input", "result"]>, AllTypesMatch<["cos", "sin"]>,
    DeclareOpInterfaceMethods<LoweringOpInterface, ["emitElement"]>]> {
  let summary = "Rotary position embedding on [batch, heads, sequence, head_dim]";
  let description = [{
    cos, sin: [batch or 1, sequence, r/2], r even and at most head_dim; the first r features rotate, the rest pass.
    Halves (x[i], x[i + r/2]) pair up, or neighbours (x[2i], x[2i+1]) if interleaved:
    y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin. Su et al. 2021.
  }];
  let arguments = (ins Graph_FloatTensor:$input, Graph_FloatTensor:$cos, Graph_FloatTensor:$sin,
                       DefaultValuedAttr<BoolAttr, "false">:$interleaved);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1, 2];
  let assemblyFormat = "$input `,` $cos `,` $sin attr-dict `:` type($input) `,` type($cos)";

  let hasVerifier = 1;
}


defvar attentionOperands = (ins Graph_FloatTensor:$query, Graph_FloatTensor:$key, Graph_FloatTensor:$value,
                               Optional<Graph_Tensor>:$mask, Optional<Graph_FloatTensor>:$sinks);
defvar attentionAttributes = (ins F64Attr:$scale, DefaultValuedAttr<BoolAttr, "false">:$causal,
                                 DefaultValuedAttr<I64Attr, "0">:$causalOffset, DefaultValuedAttr<I64Attr, "0">:$window,
                                 DefaultValuedAttr<F64Attr, "0.0">:$softcap);

def Graph_AttentionOp : Graph_MathOp<"attention", "Library", [AttrSizedOperandSegments]> {
  let summary = "softmax(scale * q k^T [soft-capped] + mask) v, grouped-query, without the score matrix";
  let description = [{
    query [B, Hq, Sq, D], key [B, Hkv, Sk, D], value [B, Hkv, Sk, Dv], result [B, Hq, Sq, Dv]. Query head h reads
    key/value head h / (Hq / Hkv). Scores are f32. In order: scale, soft cap c*tanh(s/c), mask, softmax.

    * `mask`: float (added) or bool (true = attend), [B or 1, Hq or 1, Sq or 1, Sk].
    * `causal`: query i sees keys j <= i + causalOffset (Sk - Sq aligns the ends).
    * `window` w > 0: and j > i + causalOffset - w.
    * `sinks`: [Hq], a logit per head that joins the softmax's denominator only.
    * A row that sees no key gives zeros.

    * attention_c1: shapes as above, Hq a multiple of Hkv.
    * attention_c2: the mask broadcasts to [B, Hq, Sq, Sk].
    * attention_c3: window needs causal.
  }];
  let arguments = !con(attentionOperands, attentionAttributes);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1, 2, 3, 4];
  let assemblyFormat = "$query `,` $key `,` $value (`mask` $mask^ `:` type($mask))? (`sinks` $sinks^ `:` type($sinks))? `scale` $scale attr-dict `:` type($query) `,` type($key) `,` type($value) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_AttentionGradOp : Graph_MathOp<"attention_grad", "Library", [AttrSizedOperandSegments]> {
  let summary = "Gradients of graph.attention's query, key, value and sinks, without the score matrix";
  let description = [{
    Operands and attributes of the attention, and the cotangent of its result. The softmax P is computed again, so that
    nothing but its inputs is kept: with dP = cotangent v^T and the score s before the softmax,
    ds[i, j] = P[i, j] (dP[i, j] - sum_j P[i, j] dP[i, j]), dquery and dkey by way of the soft cap and scale,
    dvalue = P^T cotangent, dsinks[h] = -sum_i P_sink[h, i] sum_j P[i, j] dP[i, j]. A row that sees no key gives zeros. A key/value
    head's gradients are sums over the query heads that read it. Dao et al. 2022, appendix B.2.

    * attention_grad_c1: operands as graph.attention's; cotangent has the type of its result.
    * attention_grad_c2: a result has the type of its operand; there is a dsinks exactly if there is a sinks.

    ```mlir
    %dq, %dk, %dv = graph.attention_grad %q, %k, %v cotangent %g scale 0.5 {causal = true}
        : tensor<1x4x3x2xf32>, tensor<1x2x3x2xf32>, tensor<1x2x3x5xf32>, tensor<1x4x3x5xf32>
       -> tensor<1x4x3x2xf32>, tensor<1x2x3x2xf32>, tensor<1x2x3x5xf32>
    ```
  }];
  let arguments = !con(attentionOperands, (ins Graph_FloatTensor:$cotangent), attentionAttributes);
  let results = (outs Graph_FloatTensor:$dquery, Graph_FloatTensor:$dkey, Graph_FloatTensor:$dvalue,
                      Optional<Graph_FloatTensor>:$dsinks);
  let assemblyFormat = [{
    $query `,` $key `,` $value (`mask` $mask^ `:` type($mask))? (`sinks` $sinks^ `:` type($sinks))? `cotangent` $cotangent
    `scale` $scale attr-dict `:` type($query) `,` type($key) `,` type($value) `,` type($cotangent)
    `->` type($dquery) `,` type($dkey) `,` type($dvalue) (`,` type($dsinks)^)?
  }];
  let hasVerifier = 1;
}

def Graph_SoftmaxCrossEntropyOp : Graph_MathOp<"softmax_cross_entropy", "Loops"> {
  let summary = "Per-position loss log(sum(exp(logits))) - logits[label]; zero where label equals ignoreIndex";
  let description = [{logits [..., V], labels [...], result [...] (f32). The mean over counted positions is written out by the caller.}];
  let arguments = (ins Graph_FloatTensor:$logits, Graph_IntTensor:$labels, DefaultValuedAttr<I64Attr, "-100">:$ignoreIndex);
  let results = (outs Graph_FloatTensor:$result);
  let vjpOperands = [0, 1];
  let assemblyFormat = "$logits `,` $labels attr-dict `:` type($logits) `,` type($labels) `->` type($result)";
  let hasVerifier = 1;
}

#endif // SHARDC_GRAPH_MATH_TD
