//===- CudaCalls.cpp - Calls as data --------------------------------------===//
//
// The JSON of docs/contracts.md §6.
//
//===----------------------------------------------------------------------===//
#include "shardc/Lower/CudaCalls.h"

namespace json = llvm::json;

namespace shardc {

void forEachArgument(CudaCall &call, llvm::function_ref<void(CudaArgument &)> visit) {
  if (auto *launch = std::get_if<CudaLaunch>(&call)) {
    for (CudaArgument &argument : launch->arguments)
      visit(argument);
  } else if (auto *gemm = std::get_if<CudaGemm>(&call)) {
    for (CudaMatrix *matrix : {&gemm->a, &gemm->b, &gemm->d}) {
      visit(matrix->argument);
      if (matrix->scale)
        visit(*matrix->scale);
    }
    for (std::optional<CudaArgument> *argument : {&gemm->c, &gemm->bias, &gemm->aux})
      if (*argument)
        visit(**argument);
  } else {
    visit(std::get<CudaMemset>(call).argument);
  }
}

static json::Value toJson(const CudaArgument &argument) {
  if (argument.buffer >= 0)
    return argument.buffer;
  return json::Object{{"scratch", argument.scratch}};
}

static json::Value toJson(const CudaMatrix &matrix) {
  json::Object object{{"argument", toJson(matrix.argument)},
                      {"dtype", matrix.dtype},
                      {"row", matrix.row},
                      {"column", matrix.column},
                      {"batch", json::Array(matrix.batch)}};
  if (matrix.scale)
    object["scale"] = toJson(*matrix.scale);
  return object;
}

static json::Value toJson(const CudaLaunch &launch) {
  json::Array arguments;
  for (const CudaArgument &argument : launch.arguments)
    arguments.push_back(toJson(argument));
  return json::Object{{"kind", "launch"},
                      {"symbol", launch.symbol},
                      {"blocks", launch.blocks},
                      {"threads", launch.threads},
                      {"shared", launch.sharedBytes},
                      {"arguments", std::move(arguments)}};
}

static json::Value toJson(const CudaGemm &gemm) {
  json::Object object{{"kind", "gemm"},
                      {"batch", json::Array(gemm.batch)},
                      {"m", gemm.m},
                      {"n", gemm.n},
                      {"k", gemm.k},
                      {"a", toJson(gemm.a)},
                      {"b", toJson(gemm.b)},
                      {"d", toJson(gemm.d)},
                      {"accumulate", gemm.c.has_value()},
                      {"compute", gemm.compute},
                      {"epilogue", gemm.epilogue}};
  if (gemm.c)
    object["c"] = toJson(*gemm.c);
  if (gemm.bias)
    object["bias"] = toJson(*gemm.bias);
  if (gemm.aux)
    object["aux"] = toJson(*gemm.aux);
  return object;
}

static json::Value toJson(const CudaMemset &memset) {
  return json::Object{
      {"kind", "memset"}, {"argument", toJson(memset.argument)}, {"bytes", memset.bytes}};
}

static json::Array toJson(const std::vector<CudaCall> &calls) {
  json::Array list;
  for (const CudaCall &call : calls)
    list.push_back(std::visit([](const auto &one) { return toJson(one); }, call));
  return list;
}

json::Object kernelJson(const CudaKernel &kernel) {
  json::Object object{{"name", kernel.name}, {"calls", toJson(kernel.calls)}};
  if (!kernel.otherwise.empty())
    object["otherwise"] = toJson(kernel.otherwise);
  return object;
}

} // namespace shardc
