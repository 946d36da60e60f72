#include "exporter/archive.hpp"

#include "base/text.hpp"
#include "codec/tar.hpp"
#include "exporter/detail/layer_stream.hpp"
#include "oci/media_type.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <nlohmann/json.hpp>
#include <stdio.h>
#include <unistd.h>
#include <utility>

namespace cooper::exporter {

namespace {

constexpr std::string_view kLayoutFile = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::string_view kCreated = "org.opencontainers.image.created";
constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
constexpr std::string_view kImageName = "io.containerd.image.name";

// A file of the layout: its text, or a layer.
struct Member {
    std::string text;
    const PackedLayer* layer = nullptr;
    [[nodiscard]] std::uint64_t size() const { return layer != nullptr ? layer->blob.size : text.size(); }
};
using Members = std::map<std::string, Member>;

std::string path_of(const Digest& digest) {
    std::string path = "blobs/" + digest.to_string();
    path[path.find(':')] = '/';
    return path;
}

// "2024-01-01T00:00:00.123Z" without the fraction.
std::string whole_seconds(std::string_view time) {
    const auto dot = time.find('.');
    if (dot == std::string_view::npos) return std::string(time);
    const auto zone = time.find_first_not_of("0123456789", dot + 1);
    return std::string(time.substr(0, dot)) + std::string(zone == std::string_view::npos ? "" : time.substr(zone));
}

Result<oci::Index> make_index(const std::vector<ArchiveImage>& images) {
    oci::Index index;
    index.media_type = oci::kOciIndex;
    for (const auto& [image, names] : images) {
        oci::Descriptor descriptor = image.target();
        // Of an index, when its newest image was.
        std::string created;
        for (const auto& one : image.images) {
            const oci::ImageConfig config = TRY(oci::parse_image_config(one.config_bytes));
            if (config.created) created = std::max(created, whole_seconds(*config.created));
            if (!image.index && !descriptor.platform) descriptor.platform = config.platform;
        }
        if (!created.empty()) descriptor.annotations.try_emplace(std::string(kCreated), created);
        if (names.empty()) index.manifests.push_back(descriptor);
        for (const auto& name : names) {
            const oci::Reference reference = TRY(oci::Reference::parse_normalized(name));
            oci::Descriptor named = descriptor;
            named.annotations[std::string(kImageName)] = reference.canonical();
            named.annotations[std::string(kRefName)] = reference.tag();
            index.manifests.push_back(std::move(named));
        }
    }
    return index;
}

Result<std::string> docker_manifest(const std::vector<ArchiveImage>& images) {
    using Json = nlohmann::ordered_json;
    Json list = Json::array();
    for (const auto& [result, names] : images) {
        // The format knows no platforms: readers of it get the image for this machine.
        const PackedImage& image = result.main_image();
        Json tags = Json::array();
        for (const auto& name : names) tags.push_back(TRY(oci::Reference::parse_normalized(name)).familiar());
        Json layers = Json::array();
        for (const auto& layer : image.layers) layers.push_back(path_of(layer.blob.digest));
        Json item;
        item["Config"] = path_of(image.config.digest);
        item["RepoTags"] = std::move(tags);
        item["Layers"] = std::move(layers);
        list.push_back(std::move(item));
    }
    return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Members> members_of(const std::vector<ArchiveImage>& images, ArchiveFormat format) {
    Members members;
    for (const auto& [result, names] : images) {
        if (result.index) members[path_of(result.index->digest)] = {.text = result.index_bytes};
        for (const auto& image : result.images) {
            members[path_of(image.manifest.digest)] = {.text = image.manifest_bytes};
            members[path_of(image.config.digest)] = {.text = image.config_bytes};
            for (const auto& layer : image.layers) members[path_of(layer.blob.digest)] = {.text = {}, .layer = &layer};
        }
        const auto add = [&](const PackedBlob& blob) {
            members[path_of(blob.descriptor.digest)] = {.text = blob.text};
        };
        for (const auto& attestation : result.attestations) {
            add(attestation.manifest);
            add(attestation.config);
            for (const auto& layer : attestation.layers) add(layer);
        }
    }
    members["index.json"] = {.text = oci::marshal_index(TRY(make_index(images)))};
    members["oci-layout"] = {.text = std::string(kLayoutFile)};
    if (format == ArchiveFormat::docker) members["manifest.json"] = {.text = TRY(docker_manifest(images))};
    return members;
}

class BorrowedFdSink final : public ByteSink {
public:
    explicit BorrowedFdSink(int fd) : fd_(fd) {}
    Result<> write(std::span<const std::byte> data) override { return sys::write_all(fd_, data); }

private:
    int fd_;
};

class BodySink final : public ByteSink {
public:
    explicit BodySink(codec::TarWriter& tar) : tar_(tar) {}
    Result<> write(std::span<const std::byte> data) override { return tar_.write_body(data); }

private:
    codec::TarWriter& tar_;
};

Result<> write_member(Packer& packer, const Member& member, ByteSink& out, const Stop& stop) {
    TRY(check_stop(stop));
    if (member.layer == nullptr) return out.write(as_bytes(member.text));
    TRY_CONTEXT(packer.write_layer(*member.layer, out, stop), "layer {}", member.layer->blob.digest.to_string());
    return {};
}

Result<> write_tar(Packer& packer, const Members& members, int fd, const Stop& stop) {
    BorrowedFdSink sink(fd);
    codec::TarWriter tar(sink);
    BodySink body(tar);
    codec::TarHeader directory;
    directory.type = codec::TarType::directory;
    directory.mode = 0755;
    std::string last_dir;
    for (const auto& [path, member] : members) {
        if (const auto slash = path.rfind('/'); slash != std::string::npos && path.substr(0, slash + 1) != last_dir) {
            if (last_dir.empty()) {
                directory.name = "blobs/";
                TRY(tar.write_header(directory));
            }
            last_dir = path.substr(0, slash + 1);
            directory.name = last_dir;
            TRY(tar.write_header(directory));
        }
        codec::TarHeader header;
        header.name = path;
        header.mode = 0444;
        header.size = member.size();
        TRY(tar.write_header(header));
        TRY(write_member(packer, member, body, stop));
    }
    return tar.finish();
}

Result<> write_file(Packer& packer, const std::string& path, const Member& member, const sys::RootedDir& dest,
                    const Stop& stop) {
    if (path.starts_with("blobs/")) {
        const auto present = dest.stat(path, sys::Follow::no);
        if (present && S_ISREG(present->st_mode) && static_cast<std::uint64_t>(present->st_size) == member.size()) {
            return {};
        }
    }
    const auto parent = TRY(dest.parent_of(path));
    const std::string temporary = fmt::format(".{}.{}.tmp", parent.name, ::getpid());
    ::unlinkat(parent.dir.get(), temporary.c_str(), 0);
    sys::Fd file(
        ::openat(parent.dir.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!file.valid()) return fail_errno(errno, "create " + path);
    sys::FdSink sink(std::move(file));
    Result<> written = write_member(packer, member, sink, stop);
    if (written) written = std::move(sink.fd()).close();
    if (written && ::renameat(parent.dir.get(), temporary.c_str(), parent.dir.get(), parent.name.c_str()) != 0) {
        written = fail_errno(errno, "rename " + path);
    }
    if (!written) ::unlinkat(parent.dir.get(), temporary.c_str(), 0);
    return written;
}

std::string row_text(ArchiveFormat format) {
    return fmt::format("exporting to {} image format", format == ArchiveFormat::oci ? "oci" : "docker");
}

}  // namespace

Result<> write_archive(Packer& packer, const std::vector<ArchiveImage>& images, ArchiveFormat format, int fd,
                       VertexProgress& progress, const Stop& stop) {
    return write_archive_without(packer, images, format, {}, fd, progress, stop);
}

Result<> write_archive_without(Packer& packer, const std::vector<ArchiveImage>& images, ArchiveFormat format,
                               const std::set<Digest>& layers, int fd, VertexProgress& progress, const Stop& stop) {
    const std::string row = row_text(format);
    progress.status(row, row, 0, 0, false);
    Members members = TRY(members_of(images, format));
    for (const Digest& layer : layers) members.erase(path_of(layer));
    TRY_CONTEXT(write_tar(packer, members, fd, stop), "write image archive");
    progress.status(row, row, 0, 0, true);
    return {};
}

Result<> write_layout(Packer& packer, const std::vector<ArchiveImage>& images, ArchiveFormat format,
                      const sys::RootedDir& dest, VertexProgress& progress, const Stop& stop) {
    const std::string row = row_text(format);
    progress.status(row, row, 0, 0, false);
    const Members members = TRY(members_of(images, format));
    TRY_CONTEXT(dest.make_dirs("blobs/sha256", 0755), "write image layout");
    // Blobs come before index.json in this order: a layout that broke off names nothing that is missing.
    for (const auto& [path, member] : members) {
        TRY_CONTEXT(write_file(packer, path, member, dest, stop), "write image layout");
    }
    progress.status(row, row, 0, 0, true);
    return {};
}

}  // namespace cooper::exporter
