//===- shard-opt.cpp - Every pass and pipeline over .mlir -----------------===//

#include "shardc/Interpret/Command.h"
#include "shardc/Pipeline/Pipeline.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  shardc::registerDialects(registry);
  if (shardc::isInterpretCommand(argc, argv))
    return shardc::runInterpretCommand(argc, argv, registry);
  shardc::registerPasses();
  return shardc::runOptTool(argc, argv, "shard-opt: shard transformer graphs\n", registry);
}
