//===- ProfileProgram.h - What shardc profile runs ------------------------===//
#ifndef SHARDC_LIB_DRIVER_PROFILEPROGRAM_H
#define SHARDC_LIB_DRIVER_PROFILEPROGRAM_H

#include "shardc/Sharding/Sharding.h"
#include "shardc/Support/CostTable.h"
#include "shardc/Support/Target.h"

#include "llvm/ADT/StringMap.h"

namespace shardc {

/// One measured command of the program.
struct Probe {
  enum Kind { Product, Attention, Element, Row, Launch, Collective, HostCopy } kind;
  std::string op;   ///< of the command: launch, all_gather, …
  KernelWork work;  ///< of a kernel
  std::string axes; ///< of a collective
  int64_t ranks = 1;
  double bytes = 0;  ///< of its larger side, or of what is copied
  double micros = 0; ///< once measured
};

/// A module with the entries `kernels` and `collectives`, and of GPUs `bus`, whose commands are
/// `probes[entry]`, in order. Nothing goes in: operands are states, which are zero. That of `bus` is
/// an optimizer's, which is offloaded.
struct ProfileProgram {
  std::string text;
  llvm::StringMap<std::vector<Probe>> probes;
};
/// What is computed and moved: so much that starting it does not count.
struct ProfileSizes {
  struct Product {
    int64_t m, n, k;
  };
  std::vector<Product> products;
  int64_t heads, length, dim; ///< of attention
  int64_t rows, columns;      ///< of elementwise kernels and of those by rows
  std::vector<int64_t> bytes; ///< of collectives
  static ProfileSizes of(Target target, bool quick);
};
/// `axisGroups`: of which axes of the mesh collectives are measured.
ProfileProgram makeProfileProgram(const Mesh &mesh, const std::vector<std::vector<int>> &axisGroups,
                                  const ProfileSizes &sizes, Target target);

/// Middle one of some; they are put in order.
double median(std::vector<double> &values);

} // namespace shardc

#endif // SHARDC_LIB_DRIVER_PROFILEPROGRAM_H
