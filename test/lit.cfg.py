# lit configuration: every .mlir/.test under test/ is a test; tools come from the build, FileCheck from LLVM.
import os

import lit.formats

config.name = "shardc"
config.test_format = lit.formats.ShTest(execute_external=True)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "fixtures", "unit", "python", "CMakeLists.txt"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.shardc_build, "test")

config.environment["PATH"] = os.pathsep.join(
    [os.path.join(config.shardc_build, "bin"), config.llvm_tools, os.environ["PATH"]]
)
config.substitutions.append(("%fixtures", os.path.join(config.test_source_root, "fixtures")))
config.substitutions.append(("%python", config.python))
config.substitutions.append(("%build", config.shardc_build))
# ONNX models are written as protobuf text.
config.substitutions.append(("%encode", f"protoc -I{config.shardc_build}/lib/Import/proto --encode=onnx.ModelProto onnx.proto"))
