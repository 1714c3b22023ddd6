//===- Format.cpp - Outputs as text and JSON ------------------------------===//

#include "Format.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/xxhash.h"

#include <cmath>

using namespace mlir;
using namespace shardc;

/// Above this many elements only a summary is printed.
static constexpr int64_t kPrintedElements = 64;

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

static std::string formatFloat(double value, Type element) {
  if (std::isnan(value))
    return "nan";
  if (std::isinf(value))
    return value < 0 ? "-inf" : "inf";
  llvm::APFloat number(value);
  bool lost = false;
  number.convert(cast<FloatType>(element).getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven,
                 &lost);
  SmallString<24> digits;
  number.toString(digits, /*FormatPrecision=*/0, /*FormatMaxPadding=*/6, /*TruncateZero=*/true);
  return digits.str().str();
}

static std::string formatElement(const HostTensor &tensor, int64_t n) {
  Type element = tensor.type.getElementType();
  if (tensor.isFloat())
    return formatFloat(tensor.f[n], element);
  if (element.isInteger(1))
    return tensor.i[n] ? "true" : "false";
  return element.isUnsignedInteger() ? std::to_string(static_cast<uint64_t>(tensor.i[n]))
                                     : std::to_string(tensor.i[n]);
}

/// The elements of dimension `dim` on, from linear index `n`.
static void formatFrom(llvm::raw_ostream &os, const HostTensor &tensor, int64_t dim, int64_t &n) {
  if (dim == tensor.rank()) {
    os << formatElement(tensor, n++);
    return;
  }
  os << '[';
  for (int64_t i = 0; i < tensor.shape()[dim]; ++i) {
    if (i)
      os << ", ";
    formatFrom(os, tensor, dim + 1, n);
  }
  os << ']';
}

std::string shardc::formatTensor(const HostTensor &tensor) {
  std::string text;
  llvm::raw_string_ostream os(text);
  int64_t n = 0;
  formatFrom(os, tensor, 0, n);
  return text;
}

//===----------------------------------------------------------------------===//
// Summaries
//===----------------------------------------------------------------------===//

namespace {
struct Summary {
  double min = std::numeric_limits<double>::infinity(), max = -min, mean = 0;
  int64_t nans = 0;
  std::string hash; ///< of the stored bytes

  explicit Summary(const HostTensor &tensor) {
    double sum = 0;
    for (int64_t n = 0; n < tensor.size(); ++n) {
      double x = tensor.isFloat() ? tensor.f[n] : static_cast<double>(tensor.i[n]);
      nans += std::isnan(x);
      min = std::fmin(min, x);
      max = std::fmax(max, x);
      sum += x;
    }
    mean = tensor.size() ? sum / static_cast<double>(tensor.size()) : 0;
    std::vector<char> bytes = tensor.toBytes();
    hash =
        llvm::formatv("{0:x-16}", llvm::xxh3_64bits(StringRef(bytes.data(), bytes.size()))).str();
  }
};
} // namespace

void shardc::printOutput(llvm::raw_ostream &os, StringRef name, const HostTensor &tensor) {
  os << name << " : " << tensor.type;
  if (tensor.size() <= kPrintedElements) {
    os << " = " << formatTensor(tensor) << '\n';
    return;
  }
  Summary summary(tensor);
  os << llvm::format(" min %g max %g mean %g hash ", summary.min, summary.max, summary.mean)
     << summary.hash;
  if (summary.nans)
    os << " with " << summary.nans << " NaN";
  os << '\n';
}

/// JSON has no infinities.
static llvm::json::Value number(double x) {
  return std::isfinite(x) ? llvm::json::Value(x)
                          : llvm::json::Value(std::isnan(x) ? "nan"
                                              : x < 0       ? "-inf"
                                                            : "inf");
}

static llvm::json::Array elementsAsJson(const HostTensor &tensor) {
  llvm::json::Array values;
  for (int64_t n = 0; n < tensor.size(); ++n)
    values.push_back(tensor.isFloat() ? number(tensor.f[n]) : llvm::json::Value(tensor.i[n]));
  return values;
}

void shardc::printOutputsAsJson(llvm::raw_ostream &os, ArrayRef<InterfaceValue> outputs,
                                ArrayRef<HostTensor> tensors) {
  llvm::json::Array list;
  for (auto [output, tensor] : llvm::zip(outputs, tensors)) {
    Summary summary(tensor);
    std::string type;
    llvm::raw_string_ostream(type) << tensor.type;
    llvm::json::Object entry{{"name", output.name},          {"type", type},
                             {"min", number(summary.min)},   {"max", number(summary.max)},
                             {"mean", number(summary.mean)}, {"hash", summary.hash}};
    if (tensor.size() <= kPrintedElements)
      entry["values"] = elementsAsJson(tensor);
    list.push_back(std::move(entry));
  }
  os << llvm::formatv("{0:2}\n",
                      llvm::json::Value(llvm::json::Object{{"outputs", std::move(list)}}));
}
