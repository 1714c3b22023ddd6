//===- Driver.h - The shardc command --------------------------------------===//

#ifndef SHARDC_DRIVER_DRIVER_H
#define SHARDC_DRIVER_DRIVER_H

#include "shardc/Driver/TrainOptions.h"
#include "shardc/Import/ImportOnnx.h"
#include "shardc/Pipeline/Pipeline.h"
#include "shardc/Support/CostTable.h"

#include <chrono>
#include <ctime>
#include <string>
#include <vector>

namespace shardc {

/// Exit statuses, for scripts.
enum ExitCode { kOk = 0, kFailed = 1, kUsage = 2, kMismatch = 3 };

/// Further sizes of dimensions for which a bundle has an entry point.
struct ShapeInstance {
  std::string name; ///< as it was given: "batch=1,seq=1"; the entry point is "main@batch=1,seq=1"
  llvm::StringMap<int64_t> dims;
};

/// What a model is compiled from and for.
struct ModelOptions {
  ImportOptions import;
  std::vector<ShapeInstance> instances; ///< beside the one that `import` describes
  std::string weights; ///< safetensors file, index or folder; empty: the model's own
  PipelineOptions pipeline;
};

/// A model in memory: its IR and where its weights are.
struct Model {
  std::shared_ptr<mlir::MLIRContext> context;
  WeightStore weights;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

/// Prints a line for each stage on stderr when asked to.
class Progress {
public:
  explicit Progress(bool enabled)
      : enabled(enabled), start(std::chrono::steady_clock::now()), startClock(std::clock()) {}
  /// A stage has ended: "import      0.050 s    0.048 s cpu  note".
  void done(llvm::StringRef stage, llvm::StringRef note = "");

private:
  bool enabled;
  std::chrono::steady_clock::time_point start;
  std::clock_t startClock;
};

/// Context with the compiler's dialects.
std::unique_ptr<mlir::MLIRContext> makeContext();

/// Imports an .onnx (or parses an .mlir) model and fills its weights. Failure has been reported.
/// `instance`: sizes instead of those of --dim. `context`: null for one of its own.
mlir::FailureOr<Model> loadModel(const ModelOptions &options,
                                 const ShapeInstance *instance = nullptr,
                                 std::shared_ptr<mlir::MLIRContext> context = nullptr);

struct CompileOptions {
  ModelOptions model;
  TrainOptions train;
  std::string output;
  std::string stopAfter; ///< name of the last stage to run; empty: all, and the bundle
  bool force = false, progress = false, json = false;
  std::vector<std::string> levels; ///< of CPUs
  std::string target = "cpu";
  std::vector<std::string> archs; ///< of GPUs
  std::string toolkit;
  int64_t workspaceBytes = -1; ///< -1: not given
  bool allowTf32 = false;
};
/// Applies the training options to the pipeline first.
int compileCommand(CompileOptions &options);

struct VerifyOptions {
  ModelOptions model;
  std::vector<std::string> inputs; ///< NAME=FILE.npy; others are seeded random numbers
  uint64_t seed = 0;
  double tolerance = 1e-4; ///< times the largest magnitude of an output
  int64_t byteBudget = int64_t(4) << 30;
  bool compiled = true; ///< also the bundle, on ranks of this process
  bool json = false;
};
int verifyCommand(const VerifyOptions &options);

/// A plan as the device configuration of a copy of the ONNX file.
struct ExportPlanOptions {
  ModelOptions model;
  std::string output, name; ///< name of the configuration; default: the mesh's axes and sizes
  bool force = false;
};
int exportPlanCommand(const ExportPlanOptions &options);

/// Every collective of a bundle: why it is there, bytes, time, what would remove it. `costs`: a
/// table of shardc profile; empty: the one that the bundle was compiled with.
int explainCommand(const std::string &bundle, const std::string &costs, bool json);
/// A bundle's directory as one zip file.
struct PackOptions {
  std::string bundle, output;
  bool force = false;
};
int packCommand(const PackOptions &options);

/// What a bundle holds.
int inspectCommand(const std::string &bundle, bool json);

/// What a bundle's step needs in memory and time, by a table of costs or a model of the machine.
struct PlanOptions {
  std::string bundle, entry, html;
  std::string
      costs; ///< table of shardc profile; empty: the bundle's own, unless there are numbers:
  std::optional<double> gflops, memoryGigabytes, linkGigabits, latencyMicros; ///< of the model
  bool json = false;
};
int planCommand(const PlanOptions &options);

/// Measures a cost table on this machine (docs/contracts.md §7).
struct ProfileOptions {
  int64_t ranks = 0, threads = 0; ///< 0: not given
  std::string mesh, channel, output;
  double linkGigabits = 0; ///< as shard-run's: a pretended network
  int64_t repeats = 20;
  std::string backend = "cpu";         ///< or cuda
  std::vector<std::string> archs = {}; ///< of kernels for GPUs; empty: any GPU's
  bool quick = false;                  ///< small sizes: whether it works, not what things cost
  bool json = false, force = false;
};
int profileCommand(const ProfileOptions &options);

/// Options of async tensor parallelism that contradict each other, said on stderr.
mlir::LogicalResult checkAsyncTensorParallel(const PipelineOptions &pipeline);

/// The table that a pipeline names, or the default model. What is wrong has been said on stderr.
mlir::FailureOr<CostTable> readCosts(const PipelineOptions &pipeline);
/// The table in `file`, or if that is empty the one in a bundle's manifest.
mlir::FailureOr<CostTable> readCosts(const std::string &file, const llvm::json::Object &manifest,
                                     const std::string &bundle);

/// The command line.
int runDriver(int argc, char **argv);

} // namespace shardc

#endif // SHARDC_DRIVER_DRIVER_H
