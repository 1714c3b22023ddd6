// The C interface of bundles and sessions (include/shardrt/runtime.h).
#include "runtime/channels/Factories.h"
#include "runtime/core/Handles.h"
#include "runtime/core/TensorAccess.h"

using namespace shardrt;

static std::string textOr(const char *text) { return text ? text : ""; }

shardrt_status shardrt_bundle_open(const char *path, const char *isa, shardrt_bundle *out) {
  return guard([&] {
    auto handle = std::make_unique<shardrt_bundle_s>();
    handle->bundle = openBundle(path, textOr(isa));
    handle->tensors = globalTensors(handle->bundle->program);
    *out = handle.release();
  });
}

void shardrt_bundle_release(shardrt_bundle bundle) { delete bundle; }

shardrt_status shardrt_bundle_info(shardrt_bundle handle, shardrt_bundle_facts *out) {
  return guard([&] {
    const Bundle &bundle = *handle->bundle;
    out->model = bundle.manifest.model.c_str();
    out->isa = bundle.kernels.level.c_str();
    out->target = targetName(bundle.program.target);
    out->ranks = bundle.ranks();
    out->entries = static_cast<int32_t>(bundle.program.entries.size());
    out->tensors = static_cast<int32_t>(handle->tensors.size());
    out->max_groups = sessionGroups(bundle);
    out->arena_bytes = static_cast<uint64_t>(sessionArenaBytes(bundle));
    out->fingerprint = bundle.fingerprint;
  });
}

template <typename T>
static const T &itemAt(const std::vector<T> &items, int32_t index, const char *what) {
  if (index < 0 || static_cast<size_t>(index) >= items.size())
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(what, " ", index, " does not exist, there are ", items.size()));
  return items[index];
}

static void describe(const Value &value, shardrt_value_facts *out) {
  out->name = value.name.c_str();
  out->alias = value.alias.empty() ? nullptr : value.alias.c_str();
  out->dtype = value.dtype;
  out->shape = value.shape.data();
  out->dims = static_cast<int32_t>(value.shape.size());
  out->bytes = static_cast<uint64_t>(*checkedBytes(value.shape, value.dtype));
}

shardrt_status shardrt_bundle_entry(shardrt_bundle handle, int32_t index,
                                    shardrt_entry_facts *out) {
  return guard([&] {
    const Entry &entry = itemAt(handle->bundle->program.entries, index, "entry point");
    out->name = entry.name.c_str();
    out->inputs = static_cast<int32_t>(entry.inputs.size());
    out->outputs = static_cast<int32_t>(entry.outputs.size());
  });
}

shardrt_status shardrt_bundle_input(shardrt_bundle handle, int32_t entry, int32_t index,
                                    shardrt_value_facts *out) {
  return guard([&] {
    const Entry &owner = itemAt(handle->bundle->program.entries, entry, "entry point");
    describe(itemAt(owner.inputs, index, "input"), out);
  });
}

shardrt_status shardrt_bundle_output(shardrt_bundle handle, int32_t entry, int32_t index,
                                     shardrt_value_facts *out) {
  return guard([&] {
    const Entry &owner = itemAt(handle->bundle->program.entries, entry, "entry point");
    describe(itemAt(owner.outputs, index, "output"), out);
  });
}

shardrt_status shardrt_bundle_tensor(shardrt_bundle handle, int32_t index,
                                     shardrt_tensor_facts *out) {
  return guard([&] {
    const GlobalTensor &tensor = itemAt(handle->tensors, index, "tensor");
    out->name = tensor.name.c_str();
    out->role = roleName(tensor.role);
    out->dtype = tensor.dtype;
    out->shape = tensor.shape.data();
    out->dims = static_cast<int32_t>(tensor.shape.size());
    out->bytes = static_cast<uint64_t>(*checkedBytes(tensor.shape, tensor.dtype));
  });
}

shardrt_status shardrt_bundle_scalar(shardrt_bundle handle, const char *name, int64_t step,
                                     double *out) {
  return guard([&] {
    const std::optional<Training> &training = handle->bundle->manifest.training;
    std::optional<double> value;
    if (training && step >= 1)
      value = optimizerScalar(*training, name, step);
    if (!value)
      throw Error(SHARDRT_INVALID_ARGUMENT, cat("there is no \"", name, "\" in step ", step,
                                                training ? "" : " of a program without training"));
    *out = *value;
  });
}

shardrt_status shardrt_session_create(shardrt_bundle bundle, shardrt_channel channel,
                                      const shardrt_session_options *given, shardrt_session *out) {
  return guard([&] {
    SessionOptions options;
    if (given) {
      options.weights = textOr(given->weights);
      options.threads = given->threads;
      options.pin = given->pin != 0;
      options.localRank = given->local_rank;
      options.trace = given->trace != 0;
      options.poison = given->poison != 0;
      options.graph = given->no_cuda_graph == 0;
      options.shareDevice = given->share_device != 0;
      if (given->nccl_ub < 0 || given->nccl_ub > SessionOptions::Window)
        throw Error(SHARDRT_INVALID_ARGUMENT, cat("nccl_ub is ", given->nccl_ub));
      options.registration = static_cast<SessionOptions::Registration>(given->nccl_ub);
    }
    auto handle = std::make_unique<shardrt_session_s>();
    handle->bundle = bundle;
    handle->session = std::make_unique<Session>(*bundle->bundle, *channel->progress, options);
    *out = handle.release();
  });
}

void shardrt_session_release(shardrt_session session) { delete session; }

shardrt_status shardrt_session_set_input(shardrt_session session, const char *name,
                                         shardrt_dtype dtype, const int64_t *shape, int32_t dims,
                                         const void *data) {
  return guard([&] { session->session->setInput(name, dtype, Shape(shape, shape + dims), data); });
}

shardrt_status shardrt_session_run(shardrt_session session, const char *entry) {
  return guard([&] { session->session->run(textOr(entry)); });
}

shardrt_status shardrt_session_get_output(shardrt_session session, const char *name, void *data,
                                          uint64_t bytes) {
  return guard([&] {
    const Value &output = session->session->output(name);
    int64_t size = *checkedBytes(output.shape, output.dtype);
    if (session->session->rank() == 0 && (!data || bytes != static_cast<uint64_t>(size)))
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("output \"", name, "\" has ", size, " bytes, given room for ", bytes));
    session->session->gatherOutput(output, data);
  });
}

shardrt_status shardrt_session_local_output(shardrt_session session, const char *name,
                                            const void **outData, uint64_t *outBytes) {
  return guard([&] {
    const Value &output = session->session->output(name);
    *outBytes = static_cast<uint64_t>(localBytes(output));
    *outData = session->session->localData(output);
  });
}

static const GlobalTensor &findTensor(shardrt_session session, const std::string &name) {
  for (const GlobalTensor &tensor : session->bundle->tensors)
    if (tensor.name == name)
      return tensor;
  throw Error(SHARDRT_INVALID_ARGUMENT, cat("the program has no tensor \"", name, "\""));
}

shardrt_status shardrt_session_get_tensor(shardrt_session session, const char *name, void *data,
                                          uint64_t bytes) {
  return guard([&] {
    const GlobalTensor &tensor = findTensor(session, name);
    int64_t size = *checkedBytes(tensor.shape, tensor.dtype);
    if (session->session->rank() == 0 && (!data || bytes != static_cast<uint64_t>(size)))
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("tensor \"", name, "\" has ", size, " bytes, given room for ", bytes));
    gatherTensor(*session->session, tensor, data);
  });
}

shardrt_status shardrt_session_set_tensor(shardrt_session session, const char *name,
                                          shardrt_dtype dtype, const int64_t *shape, int32_t dims,
                                          const void *data) {
  return guard([&] {
    setTensor(*session->session, findTensor(session, name), dtype, Shape(shape, shape + dims),
              data);
  });
}

shardrt_status shardrt_session_refresh(shardrt_session session) {
  return guard([&] { session->session->refreshParameters(); });
}

shardrt_status shardrt_session_write_trace(shardrt_session session, const char *path) {
  return guard([&] { session->session->writeTrace(path); });
}
