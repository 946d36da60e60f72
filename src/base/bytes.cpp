#include "base/bytes.hpp"

#include <algorithm>
#include <cstring>

namespace cooper {

Result<std::size_t> StringSource::read(std::span<std::byte> buffer) {
    const std::size_t n = std::min(buffer.size(), text_.size() - at_);
    std::memcpy(buffer.data(), text_.data() + at_, n);
    at_ += n;
    return n;
}

Result<> StringSink::write(std::span<const std::byte> data) {
    text.append(as_text(data));
    return {};
}

Result<std::string> read_all(ByteSource& source, std::size_t limit_bytes) {
    std::string text;
    std::vector<std::byte> buffer(64 * 1024);
    while (true) {
        const std::size_t n = TRY(source.read(buffer));
        if (n == 0) return text;
        if (text.size() + n > limit_bytes) {
            return fail(Code::resource_exhausted, Blame::user, "larger than the limit of {} bytes", limit_bytes);
        }
        text.append(as_text(std::span(buffer).first(n)));
    }
}

Result<std::uint64_t> copy_all(ByteSource& source, ByteSink& sink) {
    std::uint64_t total = 0;
    std::vector<std::byte> buffer(256 * 1024);
    while (true) {
        const std::size_t n = TRY(source.read(buffer));
        if (n == 0) return total;
        TRY(sink.write(std::span(buffer).first(n)));
        total += n;
    }
}

}  // namespace cooper
