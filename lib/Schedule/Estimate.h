//===- Estimate.h - How long commands take --------------------------------===//
#ifndef SHARDC_LIB_SCHEDULE_ESTIMATE_H
#define SHARDC_LIB_SCHEDULE_ESTIMATE_H

#include "shardc/Schedule/Program.h"
#include "shardc/Schedule/Timeline.h"
#include "shardc/Support/CostTable.h"

namespace shardc {

class Estimator {
public:
  Estimator(const Program &program, mlir::ModuleOp module, const CostTable &costs);

  /// Of a launch, a copy, a collective; 0 for a wait.
  double micros(const ProgramCommand &command) const;
  /// Puts a command on a timeline.
  void advance(Timeline &timeline, const ProgramCommand &command) const;
  Target target() const { return program.cuda ? Target::Cuda : Target::Cpu; }
  /// Of a whole list.
  double total(llvm::ArrayRef<ProgramCommand> commands) const;

private:
  double hostMicros(const ProgramCommand &command) const;

  const Program &program;
  const CostTable &costs;
  std::vector<double> kernels;                         ///< microseconds of each
  std::vector<std::pair<std::string, int64_t>> groups; ///< axes and ranks of each
};

} // namespace shardc

#endif // SHARDC_LIB_SCHEDULE_ESTIMATE_H
