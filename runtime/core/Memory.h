// Where a session's arena lies: in this machine's memory, or on a GPU. Places are bytes from the
// start of the program's arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace shardrt {

class Memory {
public:
  virtual ~Memory() = default;

  /// Of the arena, where a processor can reach it; otherwise null.
  virtual std::byte *hostAddress() const = 0;
  // Complete when they return.
  virtual void read(int64_t offset, void *dst, int64_t bytes) const = 0;
  virtual void write(int64_t offset, const void *src, int64_t bytes) = 0;
  virtual void zero(int64_t offset, int64_t bytes) = 0;

  /// Memory of the machine from which the arena can be written in the background.
  struct Release {
    void (*function)(std::byte *block) = nullptr;
    void operator()(std::byte *block) const { function(block); }
  };
  using Block = std::unique_ptr<std::byte, Release>;
  virtual Block allocateBlock(int64_t bytes) = 0;
  /// Happens before the next command; `block` stays as it is until the run that follows is over.
  virtual void startWrite(int64_t offset, const std::byte *block, int64_t bytes) = 0;

  enum Access { Read, Write, Update }; // Write: all of the bytes
  /// body(data) works on the bytes in place, or on a copy where there is no other way.
  template <typename Body>
  void access(int64_t offset, int64_t bytes, Access mode, const Body &body) {
    if (std::byte *arena = hostAddress())
      return body(arena + offset);
    std::vector<std::byte> copy(bytes);
    if (mode != Write)
      read(offset, copy.data(), bytes);
    body(copy.data());
    if (mode != Read)
      write(offset, copy.data(), bytes);
  }
};

class HostMemory : public Memory {
public:
  explicit HostMemory(std::byte *arena) : arena(arena) {}
  std::byte *hostAddress() const override { return arena; }
  void read(int64_t offset, void *dst, int64_t bytes) const override {
    std::memcpy(dst, arena + offset, bytes);
  }
  void write(int64_t offset, const void *src, int64_t bytes) override {
    std::memcpy(arena + offset, src, bytes);
  }
  void zero(int64_t offset, int64_t bytes) override { std::memset(arena + offset, 0, bytes); }
  Block allocateBlock(int64_t bytes) override {
    return Block(new std::byte[bytes](), {[](std::byte *block) { delete[] block; }});
  }
  void startWrite(int64_t offset, const std::byte *block, int64_t bytes) override {
    write(offset, block, bytes);
  }

private:
  std::byte *arena;
};

} // namespace shardrt
