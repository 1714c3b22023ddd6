// The code of a bundle, as this rank's GPU runs it.
#pragma once

#include "runtime/core/Bundle.h"
#include "runtime/cuda/Device.h"
#include <map>

namespace shardrt::cuda {

/// The code image for a device: the newest cubin that runs there, else the newest PTX. `asked`
/// names an architecture that must be taken, or is empty. Throws SHARDRT_UNSUPPORTED_CPU that says
/// what the device is and what there is.
const KernelEntry &chooseImage(const std::vector<KernelEntry> &images, int deviceArch,
                               const std::string &deviceName, const std::string &asked);

/// The loaded image, and the kernels that the program launches.
class Module {
public:
  Module(const Bundle &bundle, const Device &device);
  ~Module();
  Module(const Module &) = delete;
  Module &operator=(const Module &) = delete;

  CUfunction function(const std::string &symbol) const { return functions.at(symbol); }
  /// "sm_90a"; empty if nothing is launched.
  const std::string &level() const { return chosen; }

private:
  void load(const std::string &path, const std::string &text);
  void add(const CudaLaunch &launch, const Device &device);

  std::string chosen;
  CUmodule module = nullptr;
  std::map<std::string, CUfunction> functions;
};

} // namespace shardrt::cuda
