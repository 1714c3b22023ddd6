//===- OpsTest.cpp - Every graph op, compiled -----------------------------===//
//
// Several ops a program, to share the cost of a bundle. Sizes are odd, so that tails of vectors and
// tiles are met.
//
//===----------------------------------------------------------------------===//
#include "ProgramTesting.h"
#include "llvm/ADT/StringExtras.h"

namespace shardc::testing {
namespace {

struct OpsTest : ProgramTest {
  llvm::SmallVector<std::string> names, types;
  std::string arguments, body;

  std::string argument(const std::string &name, const std::string &type) {
    arguments += (arguments.empty() ? "" : ", ") + name + ": " + type + " {graph.name = \"" +
                 name.substr(1) + "\"}";
    return name;
  }
  /// Adds `%name = text` whose result of `type` is an output.
  void op(const std::string &text, const std::string &type) {
    std::string name = "%r" + std::to_string(names.size());
    body += "  " + name + " = " + text + "\n";
    names.push_back(name);
    types.push_back(type);
  }
  void run(double tolerance = 1) {
    std::vector<std::pair<const char *, const char *>> results;
    for (size_t i = 0; i < names.size(); ++i)
      results.push_back({names[i].c_str(), types[i].c_str()});
    checkOps(arguments, body, results, tolerance);
    names.clear();
    types.clear();
    arguments.clear();
    body.clear();
  }
};

const char *const kFloats[] = {"f64", "f32", "f16", "bf16"};
const char *const kIntegers[] = {"i64", "i32", "i16", "i8", "ui64", "ui32", "ui16", "ui8"};

std::string tensor(const std::string &shape, const std::string &element) {
  return "tensor<" + shape + "x" + element + ">";
}

TEST_F(OpsTest, FloatUnary) {
  for (const char *element : kFloats) {
    std::string type = tensor("3x37", element);
    argument("%x", type);
    body += "  %half = graph.constant dense<0.5> : " + type + "\n  %abs = graph.abs %x : " + type +
            "\n  %positive = graph.add %abs, %half : " + type +
            "\n  %above = graph.add %positive, %half : " + type +
            "\n  %unit = graph.mul %x, %half : " + type + "\n";
    for (const char *name :
         {"neg",       "abs",  "sign",     "exp",   "sin",  "cos",     "tan",  "atan",
          "sinh",      "cosh", "asinh",    "tanh",  "erf",  "sigmoid", "silu", "gelu",
          "gelu_tanh", "relu", "softplus", "floor", "ceil", "round",   "trunc"})
      op(std::string("graph.") + name + " %x : " + type, type);
    for (const char *name : {"log", "log1p", "sqrt", "rsqrt", "reciprocal"})
      op(std::string("graph.") + name + " %positive : " + type, type);
    for (const char *name : {"asin", "acos", "atanh"})
      op(std::string("graph.") + name + " %unit : " + type, type);
    op("graph.acosh %above : " + type, type);
    op("graph.is_nan %x : " + type + " -> tensor<3x37xi1>", "tensor<3x37xi1>");
    op("graph.is_inf %x : " + type + " -> tensor<3x37xi1>", "tensor<3x37xi1>");
    run(4);
  }
}

TEST_F(OpsTest, Binary) {
  std::vector<const char *> elements(std::begin(kFloats), std::end(kFloats));
  elements.insert(elements.end(), std::begin(kIntegers), std::end(kIntegers));
  for (std::string element : elements) {
    bool isFloat = element.find('f') != std::string::npos;
    std::string type = tensor("5x13", element), mask = tensor("5x13", "i1");
    argument("%x", type);
    argument("%y", type);
    for (const char *name : {"add", "sub", "mul", "div", "max", "min", "rem", "mod"})
      op(std::string("graph.") + name + " %x, %y : " + type, type);
    if (isFloat) {
      body += "  %abs = graph.abs %x : " + type +
              "\n  %three = graph.constant dense<3.0> : " + type + "\n";
      op("graph.pow %abs, %y : " + type, type);
      op("graph.pow %x, %three : " + type, type);
    } else {
      for (const char *name : {"and", "or", "xor", "shl", "shr", "pow"})
        op(std::string("graph.") + name + " %x, %y : " + type, type);
      op("graph.not %x : " + type, type);
      op("graph.neg %x : " + type, type);
      op("graph.abs %x : " + type, type);
      op("graph.sign %x : " + type, type);
    }
    for (const char *predicate : {"eq", "ne", "lt", "le", "gt", "ge"})
      op(std::string("graph.compare ") + predicate + " %x, %y : " + type + " -> " + mask, mask);
    op("graph.select %r" + std::to_string(names.size() - 1) + ", %x, %y : " + mask + ", " + type,
       type);
    run(4);
  }
}

TEST_F(OpsTest, Casts) {
  std::vector<const char *> elements(std::begin(kFloats), std::end(kFloats));
  elements.insert(elements.end(), std::begin(kIntegers), std::end(kIntegers));
  elements.push_back("i1");
  for (const char *from : elements) {
    argument("%x", tensor("2x19", from));
    for (const char *to : elements) {
      // A negative float has no unsigned value.
      if (std::string(from).find('f') != std::string::npos && to[0] == 'u')
        continue;
      op("graph.cast %x : " + tensor("2x19", from) + " -> " + tensor("2x19", to),
         tensor("2x19", to));
    }
    run();
  }
}

TEST_F(OpsTest, Movement) {
  for (const char *e : {"f32", "bf16", "i64", "i8", "i1", "f64"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%x", t("3x5x7"));
    argument("%y", t("3x2x7"));
    argument("%i", "tensor<4xi64>");
    op("graph.transpose %x [2, 0, 1] : " + t("3x5x7") + " -> " + t("7x3x5"), t("7x3x5"));
    op("graph.transpose %x [1, 0, 2] : " + t("3x5x7") + " -> " + t("5x3x7"), t("5x3x7"));
    op("graph.reshape %x : " + t("3x5x7") + " -> " + t("15x7"), t("15x7"));
    op("graph.broadcast %x [0, 2, 3] : " + t("3x5x7") + " -> " + t("3x2x5x7"), t("3x2x5x7"));
    op("graph.slice %x [0, 1, 2] step [2, 1, 3] : " + t("3x5x7") + " -> " + t("2x3x2"), t("2x3x2"));
    op("graph.reverse %x [0, 2] : " + t("3x5x7") + " -> " + t("3x5x7"), t("3x5x7"));
    op("graph.concat %x, %y dim 1 : " + t("3x5x7") + ", " + t("3x2x7") + " -> " + t("3x7x7"),
       t("3x7x7"));
    op("graph.gather %x, %i axis 1 : " + t("3x5x7") + ", tensor<4xi64> -> " + t("3x4x7"),
       t("3x4x7"));
    std::string padding = std::string(e) == "i1" ? "true"
                          : e[0] == 'i'          ? std::string("3 : ") + e
                                                 : std::string("3.0 : ") + e;
    op("graph.pad %x low [1, 0, 2] high [0, 1, 0] with " + padding + " : " + t("3x5x7") + " -> " +
           t("4x6x9"),
       t("4x6x9"));
    run();
  }
  argument("%x", "tensor<4x6xf32>");
  argument("%i", "tensor<3x2xi64>");
  argument("%j", "tensor<4x2xi32>");
  op("graph.gather_nd %x, %i batch 0 : tensor<4x6xf32>, tensor<3x2xi64> -> tensor<3xf32>",
     "tensor<3xf32>");
  op("graph.gather_elements %x, %j axis 1 : tensor<4x6xf32>, tensor<4x2xi32> -> tensor<4x2xf32>",
     "tensor<4x2xf32>");
  op("graph.iota dim 1 : tensor<3x9xi64>", "tensor<3x9xi64>");
  op("graph.iota dim 0 : tensor<3x9xbf16>", "tensor<3x9xbf16>");
  run();
}

TEST_F(OpsTest, Scatters) {
  for (const char *e : {"f32", "i64", "f64"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%x", t("5x6"));
    argument("%u", t("3x6"));
    argument("%v", t("3x6"));
    argument("%w", t("2x3x6x70"));
    argument("%i", "tensor<3x1xi64>");
    argument("%k", "tensor<3xi64>");
    argument("%j", "tensor<3x6xi64>");
    op("graph.scatter_sum %u at %k axis 0 : " + t("3x6") + ", tensor<3xi64> -> " + t("4x6"),
       t("4x6"));
    op("graph.scatter_sum %w at %j axis 1 : " + t("2x3x6x70") + ", tensor<3x6xi64> -> " +
           t("2x5x70"),
       t("2x5x70"));
    op("graph.scatter_sum %v at %k axis 0 : " + t("3x6") + ", tensor<3xi64> -> " + t("1x6"),
       t("1x6"));
    for (const char *how : {"replace", "sum", "prod", "max", "min"}) {
      op(std::string("graph.scatter_nd ") + how + " %x, %i, %u : " + t("5x6") +
             ", tensor<3x1xi64>, " + t("3x6"),
         t("5x6"));
      op(std::string("graph.scatter_elements ") + how + " %x, %j, %v axis 0 : " + t("5x6") +
             ", tensor<3x6xi64>, " + t("3x6"),
         t("5x6"));
    }
    run(4);
  }
}

TEST_F(OpsTest, Reductions) {
  for (const char *e : {"f32", "bf16", "f16", "f64", "i64", "i8", "ui8"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%x", t("3x5x33"));
    for (const char *kind : {"sum", "max", "min", "prod"}) {
      op(std::string("graph.reduce ") + kind + " %x [2] : " + t("3x5x33") + " -> " + t("3x5"),
         t("3x5"));
      op(std::string("graph.reduce ") + kind + " %x [1] : " + t("3x5x33") + " -> " + t("3x33"),
         t("3x33"));
      op(std::string("graph.reduce ") + kind + " %x [0, 1] : " + t("3x5x33") + " -> " + t("33"),
         t("33"));
    }
    // In blocks of results and of partial sums: several, a part of one, behind other dimensions,
    // with ones at the end, with ops in front.
    argument("%y", t("3x2x5x70x1"));
    argument("%z", t("150x2"));
    op("graph.reduce sum %z [0] : " + t("150x2") + " -> " + t("2"), t("2"));
    op("graph.reduce sum %y [0, 2] : " + t("3x2x5x70x1") + " -> " + t("2x70x1"), t("2x70x1"));
    op("graph.reduce max %y [0, 4] : " + t("3x2x5x70x1") + " -> " + t("2x5x70"), t("2x5x70"));
    body += "  %square = graph.mul %x, %x : " + t("3x5x33") + "\n";
    op("graph.reduce sum %square [0, 1] : " + t("3x5x33") + " -> " + t("33"), t("33"));
    op("graph.reduce sum %x [0, 1, 2] : " + t("3x5x33") + " -> tensor<" + e + ">",
       std::string("tensor<") + e + ">");
    run(8);
  }
  argument("%b", "tensor<4x9xi1>");
  op("graph.reduce and %b [1] : tensor<4x9xi1> -> tensor<4xi1>", "tensor<4xi1>");
  op("graph.reduce or %b [0] : tensor<4x9xi1> -> tensor<9xi1>", "tensor<9xi1>");
  run();
}

TEST_F(OpsTest, Scans) {
  for (const char *e : {"f32", "i64", "f64"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%x", t("4x11"));
    op("graph.arg_reduce %x dim 1 largest true last false : " + t("4x11") + " -> tensor<4xi64>",
       "tensor<4xi64>");
    op("graph.arg_reduce %x dim 0 largest false last true : " + t("4x11") + " -> tensor<11xi64>",
       "tensor<11xi64>");
    op("graph.cumsum %x dim 1 : " + t("4x11"), t("4x11"));
    op("graph.cumsum %x dim 0 {exclusive = true, reverse = true} : " + t("4x11"), t("4x11"));
    body += "  %v, %k = graph.topk %x dim 1 largest true : " + t("4x11") + " -> " + t("4x3") +
            ", tensor<4x3xi64>\n";
    body += "  %w, %l = graph.topk %x dim 0 largest false : " + t("4x11") + " -> " + t("2x11") +
            ", tensor<2x11xi32>\n";
    for (auto [name, type] : {std::pair<std::string, std::string>{"%v", t("4x3")},
                              {"%k", "tensor<4x3xi64>"},
                              {"%w", t("2x11")},
                              {"%l", "tensor<2x11xi32>"}}) {
      names.push_back(name);
      types.push_back(type);
    }
    run(4);
  }
}

TEST_F(OpsTest, Rows) {
  for (const char *e : kFloats) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%x", t("3x5x29"));
    argument("%w", t("29"));
    argument("%b", t("29"));
    argument("%w2", t("5x29"));
    op("graph.softmax %x dim 2 : " + t("3x5x29"), t("3x5x29"));
    op("graph.softmax %x dim 1 : " + t("3x5x29"), t("3x5x29"));
    op("graph.rms_norm %x, %w : " + t("29") + " epsilon 1.0e-5 : " + t("3x5x29"), t("3x5x29"));
    op("graph.rms_norm %x epsilon 1.0e-5 : " + t("3x5x29"), t("3x5x29"));
    op("graph.rms_norm %x, %w2 : " + t("5x29") +
           " epsilon 1.0e-5 {normDims = 2 : i64} : " + t("3x5x29"),
       t("3x5x29"));
    op("graph.layer_norm %x weight %w : " + t("29") + " bias %b : " + t("29") +
           " epsilon 1.0e-5 : " + t("3x5x29"),
       t("3x5x29"));
    op("graph.layer_norm %x epsilon 1.0e-5 : " + t("3x5x29"), t("3x5x29"));
    run(8);
  }
}

TEST_F(OpsTest, Contractions) {
  for (const char *e : {"f32", "bf16", "f16", "f64", "i64", "i32", "i8", "ui8"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%a", t("2x3x5x7"));
    argument("%b", t("2x3x9x7"));
    argument("%c", t("7x33"));
    argument("%d", t("5x7"));
    argument("%v", t("7"));
    op("graph.einsum \"bhsd,bhtd->bhst\" %a, %b : " + t("2x3x5x7") + ", " + t("2x3x9x7") + " -> " +
           t("2x3x5x9"),
       t("2x3x5x9"));
    op("graph.einsum \"bhsd,bhtd->bhts\" %a, %b : " + t("2x3x5x7") + ", " + t("2x3x9x7") + " -> " +
           t("2x3x9x5"),
       t("2x3x9x5"));
    op("graph.einsum \"bhsk,kn->bhsn\" %a, %c : " + t("2x3x5x7") + ", " + t("7x33") + " -> " +
           t("2x3x5x33"),
       t("2x3x5x33"));
    op("graph.einsum \"bhsk,kn->bshn\" %a, %c : " + t("2x3x5x7") + ", " + t("7x33") + " -> " +
           t("2x5x3x33"),
       t("2x5x3x33"));
    op("graph.einsum \"mk,k->m\" %d, %v : " + t("5x7") + ", " + t("7") + " -> " + t("5"), t("5"));
    op("graph.einsum \"k,k->\" %v, %v : " + t("7") + ", " + t("7") + " -> tensor<" + e + ">",
       std::string("tensor<") + e + ">");
    op("graph.einsum \"m,n->mn\" %v, %v : " + t("7") + ", " + t("7") + " -> " + t("7x7"), t("7x7"));
    op("graph.einsum \"bhsd,sd->bh\" %a, %d : " + t("2x3x5x7") + ", " + t("5x7") + " -> " +
           t("2x3"),
       t("2x3"));
    op("graph.einsum \"bhsd,hkcd->sb\" %a, %p : " + t("2x3x5x7") + ", " + t("3x1x1x7") + " -> " +
           t("5x2"),
       t("5x2"));
    argument("%p", t("3x1x1x7"));
    op("graph.einsum \"sd,cd->s\" %d, %q : " + t("5x7") + ", " + t("4x7") + " -> " + t("5"),
       t("5"));
    argument("%q", t("4x7"));
    run(8);
  }
}

TEST_F(OpsTest, PackedWeights) {
  for (const char *e : {"f32", "bf16", "f16", "f64", "i32"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%x", t("2x5x18"));
    argument("%h", t("2x3x5x6"));
    argument("%y", t("3x5x18"));
    body += "  %w = graph.parameter \"w\" : " + t("50x18") +
            "\n  %u = graph.parameter \"u\" : " + t("18x50") +
            "\n  %o = graph.parameter \"o\" : " + t("7x3x6") +
            "\n  %s = graph.parameter \"s\" : " + t("3x20x18") + "\n";
    body += "  %ut = graph.transpose %u [1, 0] : " + t("18x50") + " -> " + t("50x18") + "\n";
    op("graph.einsum \"bsk,nk->bsn\" %x, %w : " + t("2x5x18") + ", " + t("50x18") + " -> " +
           t("2x5x50"),
       t("2x5x50"));
    op("graph.einsum \"bsk,nk->bsn\" %x, %ut : " + t("2x5x18") + ", " + t("50x18") + " -> " +
           t("2x5x50"),
       t("2x5x50"));
    op("graph.einsum \"nk,bsk->bsn\" %w, %x : " + t("50x18") + ", " + t("2x5x18") + " -> " +
           t("2x5x50"),
       t("2x5x50"));
    op("graph.einsum \"bhsd,nhd->bsn\" %h, %o : " + t("2x3x5x6") + ", " + t("7x3x6") + " -> " +
           t("2x5x7"),
       t("2x5x7"));
    op("graph.einsum \"etk,enk->etn\" %y, %s : " + t("3x5x18") + ", " + t("3x20x18") + " -> " +
           t("3x5x20"),
       t("3x5x20"));
    op("graph.einsum \"bsk,enk->bsen\" %x, %s : " + t("2x5x18") + ", " + t("3x20x18") + " -> " +
           t("2x5x3x20"),
       t("2x5x3x20"));
    op("graph.add %w, %w : " + t("50x18"), t("50x18")); // the same weight row-major too
    run(8);
  }
}

TEST_F(OpsTest, TransformerBlocks) {
  for (const char *e : {"f32", "bf16"}) {
    auto t = [&](const char *shape) { return tensor(shape, e); };
    argument("%q", t("2x4x5x8"));
    argument("%k", t("2x2x7x8"));
    argument("%v", t("2x2x7x6"));
    argument("%m", "tensor<2x1x5x7xi1>");
    argument("%c", t("1x5x3"));
    argument("%s", t("1x5x3"));
    std::string types =
        " : " + t("2x4x5x8") + ", " + t("2x2x7x8") + ", " + t("2x2x7x6") + " -> " + t("2x4x5x6");
    op("graph.attention %q, %k, %v scale 0.35" + types, t("2x4x5x6"));
    op("graph.attention %q, %k, %v scale 0.35 {causal = true, causalOffset = 2 : i64}" + types,
       t("2x4x5x6"));
    op("graph.attention %q, %k, %v scale 0.35 {causal = true, causalOffset = 2 : i64, window = 3 : "
       "i64, softcap = 5.0}" +
           types,
       t("2x4x5x6"));
    op("graph.attention %q, %k, %v mask %m : tensor<2x1x5x7xi1> scale 0.35" + types, t("2x4x5x6"));
    op("graph.rope %q, %c, %s : " + t("2x4x5x8") + ", " + t("1x5x3"), t("2x4x5x8"));
    op("graph.rope %q, %c, %s {interleaved = true} : " + t("2x4x5x8") + ", " + t("1x5x3"),
       t("2x4x5x8"));
    argument("%l", t("3x4x8"));
    argument("%i", "tensor<3x4xi64>");
    op("graph.softmax_cross_entropy %l, %i : " + t("3x4x8") +
           ", tensor<3x4xi64> -> tensor<3x4xf32>",
       "tensor<3x4xf32>");
    argument("%x", t("6x9"));
    argument("%w", t("3x5x9"));
    argument("%g", "tensor<6xi64>");
    op("graph.grouped_matmul %x, %w by %g : " + t("6x9") + ", " + t("3x5x9") +
           ", tensor<6xi64> -> " + t("6x5"),
       t("6x5"));
    argument("%dy", t("6x5"));
    op("graph.grouped_matmul_grad %x, %dy by %g : " + t("6x9") + ", " + t("6x5") +
           ", tensor<6xi64> -> " + t("3x5x9"),
       t("3x5x9"));
    body += "  %wt = graph.transpose %w [0, 2, 1] : " + t("3x5x9") + " -> " + t("3x9x5") + "\n";
    op("graph.grouped_matmul %dy, %wt by %g : " + t("6x5") + ", " + t("3x9x5") +
           ", tensor<6xi64> -> " + t("6x9"),
       t("6x9"));
    argument("%y", t("2x4x9"));
    argument("%f", t("6x2x3"));
    op("graph.conv %y, %f {strides = array<i64: 2>, padLow = array<i64: 1>, padHigh = array<i64: "
       "1>, dilations = array<i64: 1>, group = 2 : i64} : " +
           t("2x4x9") + ", " + t("6x2x3") + " -> " + t("2x6x5"),
       t("2x6x5"));
    run(16);
  }
}

} // namespace
} // namespace shardc::testing
