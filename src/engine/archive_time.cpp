#include "engine/archive_time.hpp"

#include "layer/archive.hpp"

#include <algorithm>
#include <memory>

namespace cooper::engine {

namespace {

class NewestFile final : public layer::ArchiveSink {
public:
    [[nodiscard]] std::optional<std::int64_t> newest_ns() const { return newest_ns_; }

    Result<> file(const std::string& /*path*/, const layer::ArchiveMetadata& metadata, std::uint64_t /*size*/,
                  ByteSource& /*body*/) override {
        newest_ns_ = std::max(newest_ns_.value_or(metadata.mtime_ns), metadata.mtime_ns);
        return {};
    }
    Result<> directory(const std::string& /*path*/, const layer::ArchiveMetadata& /*metadata*/) override { return {}; }
    Result<> symlink(const std::string& /*path*/, const std::string& /*target*/,
                     const layer::ArchiveMetadata& /*metadata*/) override {
        return {};
    }
    Result<> hard_link(const std::string& /*path*/, const std::string& /*target*/,
                       const layer::ArchiveMetadata& /*metadata*/) override {
        return {};
    }
    Result<> device(const std::string& /*path*/, layer::DeviceKind /*kind*/, std::uint32_t /*major*/,
                    std::uint32_t /*minor*/, const layer::ArchiveMetadata& /*metadata*/) override {
        return {};
    }

private:
    std::optional<std::int64_t> newest_ns_;
};

}  // namespace

Result<std::optional<std::int64_t>> newest_file_s(sys::Fd archive, const Stop& stop) {
    if (!TRY(layer::detect_archive(archive.get()))) return std::optional<std::int64_t>();
    NewestFile newest;
    TRY(layer::extract_archive(std::make_unique<sys::FdSource>(std::move(archive)), newest, layer::ArchiveLimits{},
                               stop));
    if (!newest.newest_ns()) return std::optional<std::int64_t>();
    return std::optional(*newest.newest_ns() / 1'000'000'000);
}

}  // namespace cooper::engine
