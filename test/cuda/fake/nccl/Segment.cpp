//===- Segment.cpp - Memory that ranks share ------------------------------===//
#include "Nccl.h"
#include <cstring>
#include <fcntl.h>
#include <random>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>

namespace fake::nccl {

static constexpr char magic[16] = "fake nccl";
static constexpr uint64_t headerBytes = 4096;

UniqueId Segment::create() {
  UniqueId id{};
  std::memcpy(id.magic, magic, sizeof(magic));
  id.process = getpid();
  // Open for as long as the process lives: nobody says when the last rank has come.
  id.file = memfd_create("fake-nccl", MFD_CLOEXEC);
  std::random_device random;
  id.nonce = uint64_t(random()) << 32 | random();
  Header header{};
  header.nonce = id.nonce;
  if (id.file < 0 || pwrite(id.file, &id.nonce, sizeof(id.nonce), 0) != ssize_t(sizeof(id.nonce)))
    throw std::runtime_error(std::string("no memory for a unique id: ") + std::strerror(errno));
  return id;
}

Segment::Segment(const UniqueId &id, unsigned ranks)
    : ranks(ranks),
      bytes(headerBytes + ranks * sizeof(Slot) + uint64_t(ranks) * ranks * sizeof(Mailbox)) {
  if (std::memcmp(id.magic, magic, sizeof(magic)) != 0)
    throw std::runtime_error("the unique id was not made by this library");
  std::string path = "/proc/" + std::to_string(id.process) + "/fd/" + std::to_string(id.file);
  int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0)
    throw std::runtime_error("the process that made the unique id is gone: " +
                             std::string(std::strerror(errno)));
  // All ranks make it equally large.
  bool sized = ftruncate(file, off_t(bytes)) == 0;
  memory = sized ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (memory == MAP_FAILED)
    throw std::runtime_error("cannot map a communicator's memory");
  if (header().nonce != id.nonce)
    throw std::runtime_error("the unique id is of another process");
}

Segment::~Segment() { munmap(memory, bytes); }

Slot &Segment::slot(unsigned rank) const {
  return *reinterpret_cast<Slot *>(static_cast<uint8_t *>(memory) + headerBytes +
                                   rank * sizeof(Slot));
}

Mailbox &Segment::mailbox(unsigned from, unsigned to) const {
  return *reinterpret_cast<Mailbox *>(static_cast<uint8_t *>(memory) + headerBytes +
                                      ranks * sizeof(Slot) +
                                      (uint64_t(from) * ranks + to) * sizeof(Mailbox));
}

} // namespace fake::nccl
