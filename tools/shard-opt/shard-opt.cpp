//===- shard-opt.cpp - every pass and pipeline over .mlir ---------------------------------------===//

#include "dialects/Graph/Graph.h"
#include "dialects/Shard/Shard.h"
#include "shardc/Interpret/Command.h"

#include "shardc/Annotate/Passes.h"
#include "shardc/Outline/Passes.h"
#include "shardc/Partition/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char **argv) {
  // Registered one by one: upstream has a dialect called shard too.
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, mlir::arith::ArithDialect, shardc::graph::GraphDialect,
                  shardc::shard::ShardDialect>();
  if (shardc::isInterpretCommand(argc, argv))
    return shardc::runInterpretCommand(argc, argv, registry);
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mlir::registerSymbolDCEPass();
  shardc::registerAnnotatePasses();
  shardc::registerOutlinePasses();
  shardc::registerPartitionPasses();
  return shardc::runOptTool(argc, argv, "shard-opt: shard transformer graphs\n", registry);
}
