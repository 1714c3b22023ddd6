//===- CostTable.h - What computing and moving bytes costs ----------------===//
//
// The one table that everybody asks who weighs time: the reshard planner and the choice of
// shardings (by way of the mesh's bandwidths), the scheduler, and `shardc plan`. Measured by
// `shardc profile` (docs/contracts.md §7); what it has not measured, or all if there is none, comes
// from a model of four numbers.
//
//===----------------------------------------------------------------------===//
#ifndef SHARDC_SUPPORT_COSTTABLE_H
#define SHARDC_SUPPORT_COSTTABLE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace shardc {

/// What one kernel does. Flops of products and of attention run at rates of their own.
struct KernelWork {
  double productFlops = 0, attentionFlops = 0, otherFlops = 0;
  double bytes = 0;            ///< of arguments and results
  std::string dtype = "f32";   ///< of the factors of its products
  int64_t m = 0, n = 0, k = 0; ///< of its largest product
  bool isRow = false;          ///< has reductions along rows: norms, softmax

  llvm::json::Object toJson() const;
  static KernelWork fromJson(const llvm::json::Object &object);
};

/// Facts about the machine that was measured, for people.
struct MachineFacts {
  std::string processor, target, channel, isa;
  int64_t ranks = 1, threads = 1;
};

class CostTable {
public:
  struct Product {
    std::string dtype;
    int64_t m, n, k;
    double gflops;
  };
  struct Attention {
    std::string dtype;
    double gflops;
  };
  /// latency + bytes / bandwidth, where bytes are those of the larger one of a rank's source and
  /// result.
  struct Collective {
    std::string op, axes; ///< axes: names as in "dp_shard,tp", or empty: any of this size
    int64_t ranks;
    double latencyMicros, gigabytesPerSecond;
  };

  /// The model, used for what was not measured.
  double gflops = 100, memoryGigabytes = 20, linkGigabytes = 12.5, latencyMicros = 5;
  double busGigabytes = 25; ///< between a GPU and the machine's memory

  MachineFacts machine;
  std::vector<Product> products;
  std::vector<Attention> attention;
  double elementGigabytes = 0, rowGigabytes = 0; ///< per second, of fused kernels; 0: not measured
  double launchMicros = 0;
  double hostGigabytes = 0; ///< per second, over a GPU's bus; 0: not measured
  std::vector<Collective> collectives;
  std::string sha256; ///< of the file; empty: the default model

  bool isMeasured() const { return !sha256.empty(); }
  /// "default model", or where it was measured.
  std::string describe() const;

  /// An error names the file, and what is missing or wrong.
  static llvm::Expected<CostTable> read(llvm::StringRef path);
  static llvm::Expected<CostTable> parse(llvm::StringRef text, llvm::StringRef name);
  llvm::json::Value toJson() const;
  /// What a manifest says: the name or hash, and the table itself.
  llvm::json::Object record() const;
  static llvm::Expected<CostTable> fromRecord(const llvm::json::Object &record,
                                              llvm::StringRef name);

  double kernelMicros(const KernelWork &work) const;
  double copyMicros(double bytes) const;
  /// Over a GPU's bus, both ways at once.
  double hostMicros(double read, double written) const;
  /// `bytes`: of the larger one of source and result.
  double collectiveMicros(llvm::StringRef op, llvm::StringRef axes, int64_t ranks,
                          double bytes) const;

  /// The link along a mesh axis, as the reshard planner models it
  /// (include/shardc/Sharding/Reshard.h): mean of the kinds that were measured.
  struct Link {
    double gigabytesPerSecond, latencyMicros;
  };
  std::optional<Link> link(llvm::StringRef axis, int64_t ranks) const;

private:
  static llvm::Expected<CostTable> fromJson(const llvm::json::Value &value, llvm::StringRef name);
  const Collective *findCollective(llvm::StringRef op, llvm::StringRef axes, int64_t ranks) const;
  double productRate(const KernelWork &work) const;
  double attentionRate(llvm::StringRef dtype) const;
};

/// latency + bytes / bandwidth through (bytes, microseconds), in which relative errors count. Both
/// are never negative, whatever the points.
struct LineFit {
  double latencyMicros, gigabytesPerSecond;
};
LineFit fitLine(llvm::ArrayRef<std::pair<double, double>> points);

} // namespace shardc

#endif // SHARDC_SUPPORT_COSTTABLE_H
