// Libraries of NVIDIA, found when they are needed: one runtime serves machines with and without
// GPUs, and is built without any of them. Only what is used is declared, by hand, under the names
// of their own headers.
#pragma once

#include "runtime/core/Error.h"
#include <string>
#include <vector>

namespace shardrt::cuda {

/// A loaded library. It stays loaded for as long as the process lives.
class Library {
public:
  struct Source {
    std::vector<std::string> files; // the first that can be loaded is taken
    const char *variable;           // of the environment: a file to take instead
    const char *advice;             // what to install
  };
  /// Throws SHARDRT_NO_DEVICE that says which file is missing and what to install.
  explicit Library(const Source &source);
  virtual ~Library() = default;
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;

  /// Throws SHARDRT_NO_DEVICE that names file and symbol.
  void *find(const char *symbol) const;
  const std::string &file() const { return path; }

  virtual bool isFailure(int status) const { return status != 0; }
  /// Throws what a call's status means.
  [[noreturn]] virtual void fail(const char *symbol, int status) const = 0;

private:
  void *handle = nullptr;
  std::string path;
};

/// A function of a library that returns a status.
template <typename Signature> class Function;
template <typename... Parameters> class Function<int(Parameters...)> {
public:
  Function(const Library &library, const char *symbol)
      : library(library), symbol(symbol),
        pointer(reinterpret_cast<int (*)(Parameters...)>(library.find(symbol))) {}

  /// Throws unless it succeeds.
  void operator()(Parameters... arguments) const {
    if (int status = pointer(arguments...); library.isFailure(status))
      library.fail(symbol, status);
  }
  /// The status is the caller's to look at.
  int status(Parameters... arguments) const { return pointer(arguments...); }
  /// What a status that the caller found bad means.
  [[noreturn]] void fail(int status) const { library.fail(symbol, status); }

private:
  const Library &library;
  const char *symbol;
  int (*pointer)(Parameters...);
};

/// A function that returns something else.
template <typename Signature> Signature *plainFunction(const Library &library, const char *symbol) {
  return reinterpret_cast<Signature *>(library.find(symbol));
}

} // namespace shardrt::cuda
