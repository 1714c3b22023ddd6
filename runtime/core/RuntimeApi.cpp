// The C interface of bundles and sessions (include/shardrt/runtime.h).
#include "runtime/channels/Factories.h"
#include "runtime/core/Error.h"
#include "runtime/core/Session.h"
#include "shardrt/runtime.h"

using namespace shardrt;

struct shardrt_bundle_s {
  std::unique_ptr<Bundle> bundle;
};

struct shardrt_session_s {
  const Bundle *bundle;
  int rank;
  std::unique_ptr<Session> session;
};

static std::string textOr(const char *text) { return text ? text : ""; }

shardrt_status shardrt_bundle_open(const char *path, const char *isa, shardrt_bundle *out) {
  return guard([&] {
    auto handle = std::make_unique<shardrt_bundle_s>();
    handle->bundle = openBundle(path, textOr(isa));
    *out = handle.release();
  });
}

void shardrt_bundle_release(shardrt_bundle bundle) { delete bundle; }

shardrt_status shardrt_bundle_info(shardrt_bundle handle, shardrt_bundle_facts *out) {
  return guard([&] {
    const Bundle &bundle = *handle->bundle;
    out->model = bundle.manifest.model.c_str();
    out->isa = bundle.kernels.level.c_str();
    out->ranks = bundle.ranks();
    out->inputs = static_cast<int32_t>(bundle.program.entries.front().inputs.size());
    out->outputs = static_cast<int32_t>(bundle.program.entries.front().outputs.size());
    out->max_groups = sessionGroups(bundle);
    out->arena_bytes = static_cast<uint64_t>(sessionArenaBytes(bundle));
    out->fingerprint = bundle.fingerprint;
  });
}

static void describe(const std::vector<Value> &values, int32_t index, const char *what,
                     shardrt_value_facts *out) {
  if (index < 0 || static_cast<size_t>(index) >= values.size())
    throw Error(SHARDRT_INVALID_ARGUMENT,
                cat(what, " ", index, " does not exist, there are ", values.size()));
  const Value &value = values[index];
  out->name = value.name.c_str();
  out->alias = value.alias.empty() ? nullptr : value.alias.c_str();
  out->dtype = value.dtype;
  out->shape = value.shape.data();
  out->dims = static_cast<int32_t>(value.shape.size());
  out->bytes = static_cast<uint64_t>(*checkedBytes(value.shape, value.dtype));
}

shardrt_status shardrt_bundle_input(shardrt_bundle handle, int32_t index,
                                    shardrt_value_facts *out) {
  return guard(
      [&] { describe(handle->bundle->program.entries.front().inputs, index, "input", out); });
}

shardrt_status shardrt_bundle_output(shardrt_bundle handle, int32_t index,
                                     shardrt_value_facts *out) {
  return guard(
      [&] { describe(handle->bundle->program.entries.front().outputs, index, "output", out); });
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
    }
    auto handle = std::make_unique<shardrt_session_s>();
    handle->bundle = bundle->bundle.get();
    handle->rank = channel->progress->channel().rank;
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
    if (session->rank == 0 && (!data || bytes != static_cast<uint64_t>(size)))
      throw Error(SHARDRT_INVALID_ARGUMENT,
                  cat("output \"", name, "\" has ", size, " bytes, given room for ", bytes));
    session->session->gatherOutput(output, data);
  });
}

shardrt_status shardrt_session_local_output(shardrt_session session, const char *name,
                                            const void **outData, uint64_t *outBytes) {
  return guard([&] {
    const Value &output = session->session->output(name);
    *outBytes = static_cast<uint64_t>(
        *checkedBytes(localShape(output.shape, output.sharding), output.dtype));
    *outData = session->session->localData(output);
  });
}

shardrt_status shardrt_session_write_trace(shardrt_session session, const char *path) {
  return guard([&] { session->session->writeTrace(path); });
}
