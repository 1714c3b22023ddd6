//===- ImportFuzzer.cpp - Hostile ONNX files must give diagnostics, never crashes -===//
//
// With libFuzzer: `import-fuzzer CORPUS -max_total_time=600`. Without:
// runtime/fuzz/StandaloneDriver.cpp mutates models; test/fuzz gives it those of the lit tests in
// test/Import.
//
//===----------------------------------------------------------------------===//

#include "shardc/Import/ImportOnnx.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

/// The importer maps files; each process has one of its own.
static const std::string &modelPath() {
  static const std::string path = [] {
    llvm::SmallString<128> name;
    if (llvm::sys::fs::createTemporaryFile("import-fuzzer", "onnx", name))
      llvm::report_fatal_error("no temporary file");
    return name.str().str();
  }();
  return path;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::error_code code;
  llvm::raw_fd_ostream file(modelPath(), code);
  file.write(reinterpret_cast<const char *>(data), size);
  file.close();
  MLIRContext context(MLIRContext::Threading::DISABLED);
  ScopedDiagnosticHandler quiet(&context, [](Diagnostic &) { return success(); });
  shardc::ImportOptions options;
  options.path = modelPath();
  options.dims["batch"] = 2;
  options.foldLimit = 1 << 16; // keeps a round short
  options.readDevices = true;
  shardc::WeightStore weights;
  (void)shardc::importOnnx(context, options, weights);
  if (llvm::StringRef(reinterpret_cast<const char *>(data), size)
          .contains("past")) { // the length of a cache, perhaps
    options.cacheDim = "past";
    options.cacheCapacity = 8;
    shardc::WeightStore others;
    (void)shardc::importOnnx(context, options, others);
  }
  return 0;
}
