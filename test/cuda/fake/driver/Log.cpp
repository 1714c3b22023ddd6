//===- Log.cpp - The call log ---------------------------------------------===//
#include "Log.h"
#include "Extension.h"
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

namespace fake {

static int logFile() {
  static const int file = [] {
    const char *path = std::getenv("FAKE_CUDA_LOG");
    return path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
  }();
  return file;
}

static std::string quoted(const std::string &value) {
  std::string text = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\')
      text += '\\';
    text += c < ' ' && c >= 0 ? ' ' : c;
  }
  return text + '"';
}

LogLine::LogLine(const char *call) {
  if (logFile() >= 0)
    text = "{\"pid\": " + std::to_string(getpid()) +
           ", \"device\": " + std::to_string(currentDevice()) + ", \"call\": " + quoted(call);
}

LogLine::~LogLine() {
  if (text.empty())
    return;
  text += "}\n";
  // One write a line, so that processes do not mix theirs.
  if (write(logFile(), text.data(), text.size()) != ssize_t(text.size()))
    std::fprintf(stderr, "fake cuda: cannot write the call log\n");
}

LogLine &LogLine::add(const char *key, uint64_t value) {
  if (!text.empty())
    text += ", \"" + std::string(key) + "\": " + std::to_string(value);
  return *this;
}

LogLine &LogLine::add(const char *key, const std::string &value) {
  if (!text.empty())
    text += ", \"" + std::string(key) + "\": " + quoted(value);
  return *this;
}

LogLine &LogLine::add(const char *key, const std::vector<uint64_t> &values) {
  if (text.empty())
    return *this;
  std::string list;
  for (uint64_t value : values)
    list += (list.empty() ? "" : ", ") + std::to_string(value);
  text += ", \"" + std::string(key) + "\": [" + list + "]";
  return *this;
}

void complain(const std::string &message) {
  std::fprintf(stderr, "fake cuda: %s\n", message.c_str());
  LogLine("error").add("message", message);
}

uint64_t setting(const char *name, uint64_t otherwise) {
  const char *value = std::getenv(name);
  return value && *value ? std::strtoull(value, nullptr, 0) : otherwise;
}

} // namespace fake
