// A mutation driver for compilers without libFuzzer: StandaloneDriver --seconds N [--seed S] FILE
// ... Each round takes a file, damages a few bytes, cuts or duplicates a piece, or swaps a number,
// and runs the target. A sequence follows from its seed. When a round crashes, does not end or
// throws, its number is printed, and its input lies in "finding".
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const unsigned secondsForOne = 20;
static const char *const numbers[] = {
    "0",     "-1",   "1",  "63", "4294967296", "9223372036854775807", "18446744073709551615",
    "1e308", "null", "[]", "{}", "\"\""};

static std::string input; // of the current round
static long currentRound = 0;

static std::string mutated(std::string text, std::mt19937 &random) {
  auto below = [&](size_t limit) { return limit ? random() % limit : 0; };
  for (size_t i = 0, changes = 1 + below(4); i < changes && text.size() > 1; ++i) {
    size_t at = 1 + below(text.size() - 1), length = below(std::min<size_t>(32, text.size() - at));
    switch (below(5)) {
    case 0:
      text[at] = static_cast<char>(random());
      break;
    case 1:
      text.erase(at, length);
      break;
    case 2:
      text.insert(at, text.substr(at, length));
      break;
    case 3:
      text.resize(at);
      break;
    default: { // a number, where one is
      size_t begin = text.find_first_of("0123456789", at);
      size_t end = begin == std::string::npos ? begin : text.find_first_not_of("0123456789", begin);
      if (end != std::string::npos)
        text.replace(begin, end - begin, numbers[below(std::size(numbers))]);
    }
    }
  }
  return text;
}

static void keepFinding() {
  int file = open("finding", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file >= 0 && write(file, input.data(), input.size()) >= 0)
    close(file);
}

/// Only calls that a signal handler may use, but for formatting into a buffer of its own.
static void onSignal(int number) {
  char text[120];
  int length = std::snprintf(text, sizeof text, "round %ld: %s\n", currentRound,
                             number == SIGALRM ? "does not end" : strsignal(number));
  if (write(STDERR_FILENO, text, length) == length)
    keepFinding();
  _exit(1);
}

int main(int argc, char **argv) {
  double seconds = 0;
  unsigned seed = 1;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--seconds" && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
    } else if (word == "--seed" && i + 1 < argc) {
      seed = std::strtoul(argv[++i], nullptr, 10);
    } else {
      std::ifstream file(word, std::ios::binary);
      files.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      if (!file || files.back().empty()) {
        std::fprintf(stderr, "cannot read %s, or it is empty\n", argv[i]);
        return 2;
      }
    }
  }
  if (files.empty() || seconds <= 0) {
    std::fprintf(stderr, "usage: %s --seconds N [--seed S] FILE...\n", argv[0]);
    return 2;
  }
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM})
    std::signal(number, onSignal);
  std::printf("seed %u, %zu files, %g s\n", seed, files.size(), seconds);
  std::mt19937 random(seed);
  auto start = std::chrono::steady_clock::now();
  auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const std::string &file : files) { // as they are first: a finding there is no mutation's
    input = file;
    alarm(secondsForOne);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(input.data()), input.size());
  }
  for (; elapsed() < seconds; ++currentRound) {
    input = mutated(files[currentRound % files.size()], random);
    alarm(secondsForOne);
    try {
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(input.data()), input.size());
    } catch (const std::exception &error) {
      std::fprintf(stderr, "round %ld: %s\n", currentRound, error.what());
      keepFinding();
      return 1;
    }
  }
  std::printf("%ld rounds without a finding\n", currentRound);
  return 0;
}
