// What the handles of include/shardrt/runtime.h point at.
#pragma once

#include "runtime/core/Error.h"
#include "runtime/core/GlobalTensors.h"
#include "runtime/core/Session.h"
#include "shardrt/runtime.h"

struct shardrt_bundle_s {
  std::unique_ptr<shardrt::Bundle> bundle;
  std::vector<shardrt::GlobalTensor> tensors; // of its states
};

struct shardrt_session_s {
  const shardrt_bundle_s *bundle;
  std::unique_ptr<shardrt::Session> session;
};
