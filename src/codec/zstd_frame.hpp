// One zstd frame at a time, in memory: for small pieces that are read apart from one another. RFC 8878.
// The output depends on the bytes and the level only. Any thread.
#pragma once

#include "base/bytes.hpp"
#include "base/result.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace cooper::codec {

// Keeps its working memory from frame to frame. One thread at a time.
class ZstdFrames {
public:
    explicit ZstdFrames(int level);
    ZstdFrames(ZstdFrames&&) noexcept;
    ZstdFrames& operator=(ZstdFrames&&) = delete;
    ~ZstdFrames();
    [[nodiscard]] Result<std::string> compress(std::string_view bytes);

private:
    void* context_;
    int level_;
};

// Exactly one frame that holds exactly size_bytes; all else is data_loss, and no more memory is taken.
[[nodiscard]] Result<std::string> read_zstd_frame(std::string_view frame, std::size_t size_bytes);

}  // namespace cooper::codec
