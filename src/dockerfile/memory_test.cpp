// What hostile texts take of memory, from the text to LLB and through the checks: at most ten times the text beyond a
// fixed floor. Instructions, words and stages are counted and have limits of their own. Counts what operator new gives,
// so the figures are the same in every run.
#include "base/result.hpp"
#include "dockerfile/fake_bridge.hpp"
#include "dockerfile/format.hpp"
#include "dockerfile/parse.hpp"
#include "dockerfile/to_llb.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fmt/core.h>
#include <functional>
#include <gtest/gtest.h>
#include <malloc.h>
#include <new>

// Sanitizers bring an operator new of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COOPER_COUNTS_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COOPER_COUNTS_MEMORY 0
#endif
#endif
#ifndef COOPER_COUNTS_MEMORY
#define COOPER_COUNTS_MEMORY 1
#endif

#if COOPER_COUNTS_MEMORY

namespace {

std::atomic<std::size_t> live_bytes{0};
std::atomic<std::size_t> peak_bytes{0};

void* counted(void* memory) {
    if (memory == nullptr) std::abort();
    const std::size_t live = live_bytes += ::malloc_usable_size(memory);
    std::size_t peak = peak_bytes;
    while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
    }
    return memory;
}

void uncount(void* memory) {
    if (memory != nullptr) live_bytes -= ::malloc_usable_size(memory);
    std::free(memory);
}

}  // namespace

void* operator new(std::size_t size) { return counted(std::malloc(size)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    const auto step = static_cast<std::size_t>(alignment);
    return counted(std::aligned_alloc(step, (size + step - 1) / step * step));
}
void operator delete(void* memory) noexcept { uncount(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { uncount(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { uncount(memory); }
void operator delete(void* memory, std::size_t /*size*/, std::align_val_t /*alignment*/) noexcept { uncount(memory); }

namespace cooper::dockerfile {
namespace {

constexpr std::size_t kTimes = 10;
constexpr std::size_t kSize = 512U << 10U;
constexpr std::size_t kFloor = 1U << 20U;

std::size_t peak_of(const std::function<void()>& work) {
    const std::size_t before = live_bytes;
    peak_bytes = before;
    work();
    return peak_bytes - before;
}

struct Text {
    const char* name;
    std::string begin;
    std::string line;  // again and again
    std::string end;
};

std::string of_size(const Text& shape, std::size_t size) {
    std::string text = shape.begin;
    text.reserve(size);
    while (text.size() + shape.line.size() + shape.end.size() <= size) text += shape.line;
    return text + shape.end;
}

const std::vector<Text> kLong = {
    {"instructions that are none", "", "a\n", ""},
    {"instructions that are none, behind a stage", "FROM scratch\n", "A b\n", ""},
    {"blank lines", "FROM scratch\n", "\n", ""},
    {"comments", "FROM scratch\n", "#\n", ""},
    {"long comments", "FROM scratch\n", "# check=skip=all;error=true\n", "LABEL a=b\n"},
    {"a continued command", "FROM alpine:3\nRUN ", "a \\\n", "b\n"},
    {"a continued command of blank lines", "FROM alpine:3\nRUN a \\\n", "\n", "b\n"},
    {"a continued command of comments", "FROM alpine:3\nRUN a \\\n", "#\n", "b\n"},
    {"a continued value", "FROM scratch\nLABEL a=\"", "$a \\\n", "\"\n"},
    {"a here-document", "FROM scratch\nCOPY <<E /\n", "a\n", "E\n"},
    {"a here-document that is not ended", "FROM scratch\nCOPY <<E /\n", "a\n", ""},
    {"a here-document of commands", "FROM alpine:3\nRUN <<E\n", "apt-get install a\n", "E\n"},
    {"a here-document of variables", "FROM scratch\nCOPY <<E /\n", "$a${b}\n", "E\n"},
    {"nested arrays", "FROM scratch\nCMD ", "[\\\n", "\n"},
    {"zeros", "FROM scratch\n", std::string(2, '\0'), ""},
    {"modifiers", "FROM scratch\nENV a=", "${a:-\\\n", "\n"},
    {"quotes", "FROM scratch\nENV a=", "'\"'\\\n", "\n"},
    {"directives", "", "# escape=\\\n", "FROM scratch\n"},
};

void expect_small(const Text& shape) {
    const std::string text = of_size(shape, kSize);
    const std::size_t bound = kFloor + kTimes * text.size();
    ConvertOptions options;
    options.build_platforms = {oci::Platform{.os = "linux", .architecture = "amd64"}};
    EXPECT_LE(peak_of([&] {
                  FakeBridge bridge;
                  (void)to_llb(text, options, bridge, Stop{});
              }),
              bound)
        << shape.name;
    options.check_options = "experimental=all";
    EXPECT_LE(peak_of([&] {
                  FakeBridge bridge;
                  (void)lint(text, options, bridge, Stop{});
              }),
              bound)
        << shape.name;
    EXPECT_LE(peak_of([&] { (void)format(text, "Dockerfile"); }), bound) << shape.name;
}

TEST(Memory, OfLongInstructionsIsASmallMultipleOfTheText) {
    for (const Text& shape : kLong) expect_small(shape);
}

}  // namespace
}  // namespace cooper::dockerfile

#endif
