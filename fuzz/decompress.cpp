// gzip, zstd, bzip2 and xz framing: the first byte cuts the reads, the rest is the stream.
#include "codec/compression.hpp"

#include <algorithm>

namespace {

class CutSource final : public cooper::ByteSource {
public:
    CutSource(std::string text, std::size_t step) : inner_(std::move(text)), step_(step) {}
    cooper::Result<std::size_t> read(std::span<std::byte> buffer) override {
        return inner_.read(buffer.first(std::min(buffer.size(), step_)));
    }

private:
    cooper::StringSource inner_;
    std::size_t step_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    auto opened = cooper::codec::decompress_any(std::make_unique<CutSource>(std::move(text), data[0] + 1U));
    if (!opened) return 0;
    static_cast<void>(cooper::read_all(*opened->source, 4 << 20));
    return 0;
}
