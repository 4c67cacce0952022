#include "calls.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdio>

namespace races {

uint32_t CallTree::enter(uint32_t call, const void* place) {
  const auto [known, is_new] = numbers_.try_emplace({call, place}, nodes_.size());
  if (is_new) {
    nodes_.push_back({call, place});
  }
  return known->second;
}

std::vector<const void*> CallTree::places(uint32_t call) const {
  std::vector<const void*> places;
  for (; call != kRoot; call = nodes_[call].caller) {
    places.push_back(nodes_[call].place);
  }
  return places;
}

namespace {

// Pairs of lines: a function, then its file and line; inlined functions before their callers.
std::vector<std::string> lines_of(const std::vector<const void*>& places) {
  Dl_info object;
  link_map* loaded = nullptr;
  if (places.empty() ||
      dladdr1(places.front(), &object, reinterpret_cast<void**>(&loaded), RTLD_DL_LINKMAP) == 0) {
    return {};
  }
  std::string command = "addr2line -Cfi -e '" + std::string(object.dli_fname) + "'";
  for (const void* place : places) {
    // A call returns to after itself, perhaps to another line.
    char address[32];
    std::snprintf(address, sizeof(address), " 0x%zx",
                  reinterpret_cast<size_t>(place) - 1 - loaded->l_addr);
    command += address;
  }
  std::vector<std::string> lines{""};
  FILE* output = popen(command.c_str(), "r");
  for (int c = output == nullptr ? EOF : std::fgetc(output); c != EOF; c = std::fgetc(output)) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += static_cast<char>(c);
    }
  }
  if (output != nullptr) {
    pclose(output);
  }
  return lines;
}

// "some_kernel<float, 8>" of "void fcn_ext::argmax::some_kernel<float, 8>(int, float*)".
std::string short_name(std::string name) {
  const std::string anonymous = "(anonymous namespace)::";
  for (size_t at = name.find(anonymous); at != std::string::npos; at = name.find(anonymous)) {
    name.erase(at, anonymous.size());
  }
  int depth = 0;
  size_t begin = 0, end = name.size();
  for (size_t k = 0; k < end; ++k) {
    depth += name[k] == '<' ? 1 : name[k] == '>' ? -1 : 0;
    if (depth == 0 && name[k] == '(') {
      end = k;
    } else if (depth == 0 && (name[k] == ' ' || name[k] == ':')) {
      begin = k + 1;
    }
  }
  return name.substr(begin, end - begin);
}

}  // namespace

Place place_of(const std::vector<const void*>& places) {
  Place place;
  const std::vector<std::string> lines = lines_of(places);
  for (size_t k = 0; k + 1 < lines.size(); k += 2) {
    const std::string& source = lines[k + 1];
    const size_t emulation = source.find("/tests/cuda_emulation/"), kernels = source.find("/csrc/");
    // Skip the emulation's own functions and what launches kernels.
    if (source.find("/cuda_emulation/emulator/") != std::string::npos ||
        source.find("/common/cuda/launch.cuh") != std::string::npos ||
        (emulation == std::string::npos && kernels == std::string::npos)) {
      continue;
    }
    std::string line = source.substr(emulation != std::string::npos
                                         ? emulation + sizeof("/tests/cuda_emulation/") - 1
                                         : kernels + sizeof("/csrc/") - 1);
    line = line.substr(0, line.find(' '));  // without "(discriminator 2)"
    place.lines += (place.lines.empty() ? "" : " < ") + line;
    place.kernel = short_name(lines[k]);
  }
  return place;
}

}  // namespace races
