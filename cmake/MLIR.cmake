# MLIR 22 from the distribution's packages, as one shared library. Nothing of LLVM is built or linked statically
# (a static copy beside libMLIR.so would define every mlir:: function twice).
find_package(MLIR 22.1 REQUIRED CONFIG HINTS /usr/lib/llvm-22/lib/cmake/mlir)
set(MLIR_LINK_MLIR_DYLIB ON)
list(APPEND CMAKE_MODULE_PATH "${MLIR_CMAKE_DIR}" "${LLVM_CMAKE_DIR}")
include(TableGen)
include(AddLLVM)
include(AddMLIR)
separate_arguments(SHARDC_LLVM_DEFINITIONS NATIVE_COMMAND ${LLVM_DEFINITIONS})

add_library(shardc_llvm INTERFACE)
target_include_directories(shardc_llvm SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
target_compile_definitions(shardc_llvm INTERFACE ${SHARDC_LLVM_DEFINITIONS})
target_compile_options(shardc_llvm INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions>)
target_link_libraries(shardc_llvm INTERFACE MLIR LLVM)

set(MLIR_INCLUDE_PATHS ${MLIR_INCLUDE_DIRS} ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)

# shardc_tablegen(<output> <file.td> <flags>...): one generated file, in the folder of the same path under the build tree.
function(shardc_tablegen output td)
  get_filename_component(td_abs ${td} ABSOLUTE)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${output})
  list(TRANSFORM MLIR_INCLUDE_PATHS PREPEND -I OUTPUT_VARIABLE includes)
  add_custom_command(
    OUTPUT ${out}
    COMMAND ${MLIR_TABLEGEN_EXE} ${ARGN} ${includes} ${td_abs} -o ${out} --write-if-changed -d ${out}.d
    DEPENDS ${td_abs} ${MLIR_TABLEGEN_EXE}
    DEPFILE ${out}.d
    COMMENT "TableGen ${output}")
  set_property(DIRECTORY APPEND PROPERTY SHARDC_GENERATED ${out})
endfunction()

# shardc_tablegen_target(<target> <name>): everything generated in this folder is made before <target>.
function(shardc_tablegen_target target name)
  get_property(generated DIRECTORY PROPERTY SHARDC_GENERATED)
  add_custom_target(${name} DEPENDS ${generated})
  add_dependencies(${target} ${name})
endfunction()
