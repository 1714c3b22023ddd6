# The definition of the ONNX format, compiled with the distribution's protoc. It comes from the onnx wheel, once.
set(SHARDC_ONNX_PROTO "" CACHE FILEPATH "onnx.proto of the onnx wheel (1.17 or newer); empty: fetched into .cache")
set(onnx_proto "${SHARDC_ONNX_PROTO}")
if(NOT onnx_proto)
  set(onnx_proto ${CMAKE_SOURCE_DIR}/.cache/onnx/onnx.proto)
  if(NOT EXISTS ${onnx_proto})
    find_package(Python3 COMPONENTS Interpreter)
    message(STATUS "Fetching onnx.proto")
    execute_process(COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/python/tools/fetch_onnx_proto.py ${onnx_proto})
  endif()
endif()
if(NOT EXISTS ${onnx_proto})
  message(FATAL_ERROR "no onnx.proto: give -DSHARDC_ONNX_PROTO=<onnx.proto of the onnx wheel>, or let pip reach a package index")
endif()

find_package(Protobuf REQUIRED)
set(onnx_dir ${CMAKE_BINARY_DIR}/lib/Import/proto)
file(MAKE_DIRECTORY ${onnx_dir})
configure_file(${onnx_proto} ${onnx_dir}/onnx.proto COPYONLY)
add_custom_command(
  OUTPUT ${onnx_dir}/onnx.pb.cc ${onnx_dir}/onnx.pb.h
  COMMAND ${Protobuf_PROTOC_EXECUTABLE} -I${onnx_dir} --cpp_out=${onnx_dir} onnx.proto
  DEPENDS ${onnx_dir}/onnx.proto
  COMMENT "protoc onnx.proto")
add_library(shardc_onnx_proto STATIC ${onnx_dir}/onnx.pb.cc ${onnx_dir}/onnx.pb.h)
target_include_directories(shardc_onnx_proto SYSTEM PUBLIC ${onnx_dir} ${Protobuf_INCLUDE_DIRS})
target_compile_options(shardc_onnx_proto PRIVATE -w)
target_link_libraries(shardc_onnx_proto PUBLIC ${Protobuf_LIBRARIES})
