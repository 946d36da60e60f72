#include "cli/image_difference.hpp"

#include "base/clock.hpp"
#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "codec/tar.hpp"
#include "oci/image_config.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <fcntl.h>
#include <vector>

namespace cooper::cli {
namespace {

constexpr std::size_t kMaxText = 16 << 20;
constexpr std::int64_t kSecond = 1'000'000'000;

Result<sys::Fd> open_blob(const sys::RootedDir& layout, const Digest& digest) {
    return layout.open("blobs/sha256/" + digest.hex(), O_RDONLY | O_CLOEXEC, sys::Follow::no, 0);
}
Result<std::string> read_text(const sys::RootedDir& layout, const std::string& path) {
    const sys::Fd file = TRY(layout.open(path, O_RDONLY | O_CLOEXEC, sys::Follow::no, 0));
    return sys::read_to_end(file.get(), kMaxText);
}
Result<std::string> read_text(const sys::RootedDir& layout, const Digest& digest) {
    return read_text(layout, "blobs/sha256/" + digest.hex());
}

struct FileFacts {
    codec::TarHeader header;
    Digest content;
};

Result<std::vector<FileFacts>> list_layer(const sys::RootedDir& layout, const Digest& layer, const Stop& stop) {
    sys::FdSource source(TRY(open_blob(layout, layer)));
    codec::TarReader tar(source);
    std::vector<FileFacts> files;
    while (const codec::TarHeader* header = TRY(tar.next())) {
        TRY(check_stop(stop));
        FileFacts file{.header = *header, .content = {}};
        if (header->type == codec::TarType::file) {
            codec::Sha256 hash;
            for (auto chunk = TRY(tar.chunk()); !chunk.empty(); chunk = TRY(tar.chunk())) hash.update(chunk);
            file.content = hash.finish();
        }
        files.push_back(std::move(file));
    }
    return files;
}

Result<std::uint64_t> first_other_byte(codec::TarReader& one, codec::TarReader& two) {
    std::uint64_t at = 0;
    std::span<const std::byte> a;
    std::span<const std::byte> b;
    for (;;) {
        if (a.empty()) a = TRY(one.chunk());
        if (b.empty()) b = TRY(two.chunk());
        const std::size_t n = std::min(a.size(), b.size());
        if (n == 0) return at;
        const auto end = a.begin() + static_cast<std::ptrdiff_t>(n);
        const auto other = std::mismatch(a.begin(), end, b.begin()).first;
        at += static_cast<std::uint64_t>(other - a.begin());
        if (other != end) return at;
        a = a.subspan(n);
        b = b.subspan(n);
    }
}

// Where the contents of a file that both layers have begin to differ.
Result<std::uint64_t> content_offset(const sys::RootedDir& first, const Digest& layer1, const sys::RootedDir& second,
                                     const Digest& layer2, const std::string& name) {
    sys::FdSource source1(TRY(open_blob(first, layer1)));
    sys::FdSource source2(TRY(open_blob(second, layer2)));
    codec::TarReader tar1(source1);
    codec::TarReader tar2(source2);
    const auto seek = [&name](codec::TarReader& tar) -> Result<> {
        while (const codec::TarHeader* header = TRY(tar.next())) {
            if (header->name == name) return {};
        }
        return fail(Code::internal, Blame::cooper, "{} is gone", quoted(name));
    };
    TRY(seek(tar1));
    TRY(seek(tar2));
    return first_other_byte(tar1, tar2);
}

std::string time_text(std::int64_t ns) {
    return format_rfc3339(Timestamp(std::chrono::nanoseconds(ns / kSecond * kSecond)));
}

std::string path_of(const codec::TarHeader& header) {
    std::string_view name = header.name;
    if (name.starts_with("./")) name.remove_prefix(2);
    return "/" + std::string(name);
}

// How an entry that both have differs, but for times and content; empty = not at all.
std::string how(const codec::TarHeader& a, const codec::TarHeader& b) {
    if (a.type != b.type) return "it is another kind of file";
    if (a.mode != b.mode) return fmt::format("mode {:04o}, then {:04o}", a.mode, b.mode);
    if (a.uid != b.uid || a.gid != b.gid) return fmt::format("owner {}:{}, then {}:{}", a.uid, a.gid, b.uid, b.gid);
    if (a.linkname != b.linkname) return fmt::format("link to {}, then to {}", quoted(a.linkname), quoted(b.linkname));
    if (a.devmajor != b.devmajor || a.devminor != b.devminor)
        return fmt::format("device {}:{}, then {}:{}", a.devmajor, a.devminor, b.devmajor, b.devminor);
    if (a.xattrs != b.xattrs) return "extended attributes";
    return {};
}

Result<ImageDifference> layer_difference(const sys::RootedDir& first, const Digest& layer1,
                                         const sys::RootedDir& second, const Digest& layer2, const Stop& stop) {
    const std::vector<FileFacts> files1 = TRY(list_layer(first, layer1, stop));
    const std::vector<FileFacts> files2 = TRY(list_layer(second, layer2, stop));
    ImageDifference found{.platform = {}, .layer = layer1, .what = {}};
    std::string time;
    std::size_t i = 0;
    std::size_t j = 0;
    // Both are in the order of their names.
    while (i < files1.size() || j < files2.size()) {
        const bool only1 = j == files2.size() ||
                           (i < files1.size() && files1[i].header.name != files2[j].header.name &&
                            std::ranges::none_of(
                                files2.begin() + static_cast<std::ptrdiff_t>(j), files2.end(),
                                [&](const FileFacts& file) { return file.header.name == files1[i].header.name; }));
        if (only1) {
            found.what = path_of(files1[i].header) + ": only the first build has it";
            return found;
        }
        if (i == files1.size() || files1[i].header.name != files2[j].header.name) {
            found.what = path_of(files2[j].header) + ": only the second build has it";
            return found;
        }
        const codec::TarHeader& a = files1[i].header;
        const codec::TarHeader& b = files2[j].header;
        if (const std::string difference = how(a, b); !difference.empty()) {
            found.what = path_of(a) + ": " + difference;
            return found;
        }
        if (files1[i].content != files2[j].content) {
            const std::uint64_t at = TRY(content_offset(first, layer1, second, layer2, a.name));
            found.what =
                fmt::format("{}: content differs from byte {} on ({} bytes, then {})", path_of(a), at, a.size, b.size);
            return found;
        }
        if (a.mtime_ns != b.mtime_ns && time.empty()) {
            time = fmt::format("{}: mtime {}, then {}", path_of(a), time_text(a.mtime_ns), time_text(b.mtime_ns));
        }
        i++;
        j++;
    }
    found.of_time = !time.empty();
    found.what = time.empty() ? std::string("the layer's archive itself") : time;
    return found;
}

std::string config_difference(const std::string& first, const std::string& second, bool& of_time) {
    const auto one = oci::parse_image_config(first);
    const auto two = oci::parse_image_config(second);
    if (!one || !two) return "the image configuration";
    oci::ImageConfig same_time = *one;
    same_time.created = two->created;
    if (same_time.history.size() == two->history.size()) {
        for (std::size_t i = 0; i < two->history.size(); i++) same_time.history[i].created = two->history[i].created;
    }
    of_time = oci::marshal_image_config(same_time) == oci::marshal_image_config(*two);
    if (of_time) return "the time of creation in the image configuration";
    if (one->config.env != two->config.env) return "the environment in the image configuration";
    if (one->config.labels != two->config.labels) return "the labels in the image configuration";
    return "the image configuration";
}

Result<std::optional<ImageDifference>> compare_manifests(const sys::RootedDir& first, const oci::Descriptor& target1,
                                                         const sys::RootedDir& second, const oci::Descriptor& target2,
                                                         const Stop& stop) {
    if (target1.digest == target2.digest) return std::optional<ImageDifference>();
    const oci::Manifest one = TRY(oci::parse_manifest(TRY(read_text(first, target1.digest)), target1.media_type));
    const oci::Manifest two = TRY(oci::parse_manifest(TRY(read_text(second, target2.digest)), target2.media_type));
    for (std::size_t i = 0; i < std::min(one.layers.size(), two.layers.size()); i++) {
        if (one.layers[i].digest == two.layers[i].digest) continue;
        return TRY(layer_difference(first, one.layers[i].digest, second, two.layers[i].digest, stop));
    }
    ImageDifference found;
    if (one.layers.size() != two.layers.size()) {
        found.what = fmt::format("{} layers, then {}", one.layers.size(), two.layers.size());
    } else if (one.config.digest != two.config.digest) {
        found.what = config_difference(TRY(read_text(first, one.config.digest)),
                                       TRY(read_text(second, two.config.digest)), found.of_time);
    } else {
        found.what = "the image's manifest";
    }
    return std::optional(found);
}

}  // namespace

Result<std::optional<ImageDifference>> first_difference(const sys::RootedDir& first, const sys::RootedDir& second,
                                                        const Stop& stop) {
    const auto target_of = [](const sys::RootedDir& layout) -> Result<oci::Descriptor> {
        const oci::Index index = TRY(oci::parse_index(TRY(read_text(layout, "index.json")), ""));
        if (index.manifests.empty()) return fail(Code::internal, Blame::cooper, "no image in {}", "index.json");
        return index.manifests.front();
    };
    const oci::Descriptor one = TRY(target_of(first));
    const oci::Descriptor two = TRY(target_of(second));
    if (one.digest == two.digest) return std::optional<ImageDifference>();
    if (!oci::is_index(one.media_type)) return TRY(compare_manifests(first, one, second, two, stop));
    const oci::Index index1 = TRY(oci::parse_index(TRY(read_text(first, one.digest)), one.media_type));
    const oci::Index index2 = TRY(oci::parse_index(TRY(read_text(second, two.digest)), two.media_type));
    for (std::size_t i = 0; i < std::min(index1.manifests.size(), index2.manifests.size()); i++) {
        auto found = TRY(compare_manifests(first, index1.manifests[i], second, index2.manifests[i], stop));
        if (!found) continue;
        if (index1.manifests[i].platform) found->platform = oci::format_platform(*index1.manifests[i].platform);
        return found;
    }
    return std::optional(ImageDifference{.platform = {}, .layer = {}, .what = "the image's index"});
}

}  // namespace cooper::cli
