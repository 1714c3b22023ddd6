// A mutation driver for compilers without libFuzzer: StandaloneDriver ROUNDS SEED-FILE ...
// Each round takes a seed, damages a few bytes, cuts or duplicates a piece, or swaps a number, and
// runs the target. The sequence is fixed, so a finding repeats; the failing round is printed first.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const numbers[] = {
    "0",     "-1",   "1",  "63", "4294967296", "9223372036854775807", "18446744073709551615",
    "1e308", "null", "[]", "{}", "\"\""};

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

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s ROUNDS SEED-FILE...\n", argv[0]);
    return 2;
  }
  std::vector<std::string> seeds;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::mt19937 random(1);
  for (long round = 0, rounds = std::atol(argv[1]); round < rounds; ++round) {
    std::string input = mutated(seeds[round % seeds.size()], random);
    try {
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t *>(input.data()), input.size());
    } catch (const std::exception &error) {
      std::fprintf(stderr, "round %ld: %s\n", round, error.what());
      std::ofstream("finding", std::ios::binary) << input;
      return 1;
    }
  }
  std::printf("%s rounds without a finding\n", argv[1]);
  return 0;
}
