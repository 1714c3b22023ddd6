//===- ShardInterfaces.td - What ops across devices must say about themselves -*- tablegen -*-===//

#ifndef SHARDC_SHARD_INTERFACES_TD
#define SHARDC_SHARD_INTERFACES_TD

include "mlir/IR/OpBase.td"

def MeshEvaluateOpInterface : OpInterface<"MeshEvaluateOpInterface"> {
  let cppNamespace = "::shardc::shard";
  let description = [{
    Reference evaluation of an op whose result on one device depends on other devices, or on which device it
    is. A value is one tensor per rank. On a mesh of one device the global-view ops are the identity.
  }];
  let methods = [
    InterfaceMethod<"Results on all ranks for operands on all ranks; failure emits a diagnostic on the op.",
                    "::mlir::FailureOr<::llvm::SmallVector<::shardc::DeviceTensors>>", "evaluateOnMesh",
                    (ins "const ::shardc::Mesh &":$mesh, "::llvm::ArrayRef<::shardc::DeviceTensors>":$operands)>,
  ];
}

#endif // SHARDC_SHARD_INTERFACES_TD
