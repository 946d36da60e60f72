// Jars, and archives of jars. Spec: APPNOTE.TXT of zip; the manifest of the JAR specification; pom.properties of Maven.
#include "attest/detail/json_text.hpp"
#include "attest/detail/pieces.hpp"
#include "attest/packages.hpp"
#include "base/text.hpp"

#include <algorithm>
#include <functional>
#include <libdeflate.h>
#include <memory>

namespace cooper::attest {

namespace {

using detail::read_le;

constexpr std::size_t kMaxEntries = 200'000;  // of one archive
constexpr std::size_t kMaxDirectory = std::size_t{64} << 20U;
constexpr std::size_t kMaxText = std::size_t{1} << 20U;
constexpr std::size_t kMaxInner = std::size_t{128} << 20U;  // of an archive within an archive, unpacked
constexpr int kMaxDepth = 3;                                // jar in war in ear

// "" where not all of it is there.
using ReadAt = std::function<std::string(std::uint64_t offset, std::size_t size)>;

struct ZipEntry {
    std::string_view name;
    std::uint64_t packed_bytes;
    std::uint64_t bytes;
    std::uint64_t offset;
    std::size_t method;
};

struct Zip {
    const ReadAt& read_at;
    std::string directory;
    std::vector<ZipEntry> entries;
};

// The directory stands before the end, whose place a comment hides. Large archives have a second, 64-bit end.
bool open_zip(Zip& zip, std::uint64_t size) {
    constexpr std::size_t kEnd = 22;
    constexpr std::size_t kMaxComment = 65'535;
    if (size < kEnd) return false;
    const std::size_t tail_size = static_cast<std::size_t>(std::min<std::uint64_t>(size, kEnd + kMaxComment + 20));
    const std::string tail = zip.read_at(size - tail_size, tail_size);
    const std::size_t end = tail.rfind("PK\5\6");
    if (end == std::string::npos || tail.size() - end < kEnd) return false;
    const std::string_view last = std::string_view(tail).substr(end);
    std::uint64_t count = read_le(last.substr(10), 2);
    std::uint64_t bytes = read_le(last.substr(12), 4);
    std::uint64_t offset = read_le(last.substr(16), 4);
    bool wide_end = false;
    if ((count == 0xFFFF || bytes == 0xFFFFFFFF || offset == 0xFFFFFFFF) && end >= 20 &&
        std::string_view(tail).substr(end - 20).starts_with("PK\6\7")) {
        const std::string wide = zip.read_at(read_le(std::string_view(tail).substr(end - 20 + 8), 8), 56);
        if (!wide.starts_with("PK\6\6")) return false;
        wide_end = true;
        count = read_le(std::string_view(wide).substr(32), 8);
        bytes = read_le(std::string_view(wide).substr(40), 8);
        offset = read_le(std::string_view(wide).substr(48), 8);
    }
    if (bytes > kMaxDirectory || count > kMaxEntries) return false;
    // What stands before the archive, as in jars that run by themselves, is counted by some and not by others.
    const std::uint64_t before_end = size - tail_size + end;
    std::uint64_t shift = 0;
    if (!wide_end && bytes <= before_end && before_end - bytes > offset) shift = before_end - bytes - offset;
    offset += shift;
    zip.directory = zip.read_at(offset, static_cast<std::size_t>(bytes));
    std::string_view rest = zip.directory;
    constexpr std::size_t kHeader = 46;
    while (rest.size() >= kHeader && rest.starts_with("PK\1\2") && zip.entries.size() < count) {
        const std::size_t name = read_le(rest.substr(28), 2);
        const std::size_t whole = kHeader + name + read_le(rest.substr(30), 2) + read_le(rest.substr(32), 2);
        if (whole > rest.size()) break;
        zip.entries.push_back({.name = rest.substr(kHeader, name),
                               .packed_bytes = read_le(rest.substr(20), 4),
                               .bytes = read_le(rest.substr(24), 4),
                               .offset = shift + read_le(rest.substr(42), 4),
                               .method = read_le(rest.substr(10), 2)});
        rest.remove_prefix(whole);
    }
    return !zip.entries.empty();
}

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// Lines of "name: value"; one that begins with a blank continues the one before. Only the part of the whole archive.
std::map<std::string, std::string, std::less<>> manifest_of(std::string_view text) {
    std::map<std::string, std::string, std::less<>> out;
    std::string* last = nullptr;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.empty()) break;
        if (line.front() == ' ') {
            if (last != nullptr && last->size() < kMaxField) *last += line.substr(1);
            continue;
        }
        const auto [name, value] = cut(line, ':');
        last = nullptr;
        if (value && name.size() < 100 && out.size() < 200) last = &(out[std::string(name)] = trim(*value));
    }
    return out;
}

struct Coordinates {
    std::string name;
    std::string version;
};

// "guava-31.1-jre.jar" is guava, 31.1-jre.
Coordinates from_file_name(std::string_view path) {
    std::string_view stem = last_part(path);
    stem = stem.substr(0, stem.rfind('.'));
    for (std::size_t dash = stem.find('-'); dash != std::string_view::npos; dash = stem.find('-', dash + 1)) {
        if (dash == 0 || dash + 1 == stem.size() || stem[dash + 1] < '0' || stem[dash + 1] > '9') continue;
        return {std::string(stem.substr(0, dash)), std::string(stem.substr(dash + 1))};
    }
    return {std::string(stem), {}};
}

class JavaReader {
public:
    explicit JavaReader(std::uint64_t& budget)
        : budget_(budget), inflater_(::libdeflate_alloc_decompressor(), ::libdeflate_free_decompressor) {}

    void read(const ReadAt& read_at, std::uint64_t size, std::string_view path, int depth) {
        Zip zip{.read_at = read_at, .directory = {}, .entries = {}};
        if (inflater_ == nullptr || !open_zip(zip, size)) return;
        std::string manifest;
        bool known = false;
        for (const auto& entry : zip.entries) {
            if (found_.size() >= kMaxPackages) return;
            if (entry.name == "META-INF/MANIFEST.MF") {
                manifest = content_of(zip, entry, kMaxText);
            } else if (entry.name.starts_with("META-INF/maven/") && last_part(entry.name) == "pom.properties") {
                known = add_pom(content_of(zip, entry, kMaxText)) || known;
            } else if (is_java_archive(entry.name) && depth + 1 < kMaxDepth) {
                const std::string inner = content_of(zip, entry, kMaxInner);
                const ReadAt within = [&](std::uint64_t offset, std::size_t wanted) {
                    return offset <= inner.size() && inner.size() - offset >= wanted
                               ? inner.substr(static_cast<std::size_t>(offset), wanted)
                               : std::string();
                };
                if (!inner.empty()) read(within, inner.size(), entry.name, depth + 1);
            }
        }
        if (!known) add_manifest(manifest_of(manifest), path);
    }

    std::vector<Package> take() { return std::move(found_); }

private:
    std::string content_of(const Zip& zip, const ZipEntry& entry, std::size_t limit) {
        constexpr std::size_t kStored = 0;
        constexpr std::size_t kDeflated = 8;
        if (entry.bytes > limit || entry.packed_bytes > limit) return {};
        budget_ -= std::min(budget_, entry.bytes + entry.packed_bytes);
        if (budget_ == 0) return {};
        const std::string head = zip.read_at(entry.offset, 30);
        if (!head.starts_with("PK\3\4")) return {};
        const std::uint64_t start = entry.offset + 30 + read_le(std::string_view(head).substr(26), 2) +
                                    read_le(std::string_view(head).substr(28), 2);
        std::string packed = zip.read_at(start, static_cast<std::size_t>(entry.packed_bytes));
        if (entry.method == kStored) return packed;
        if (entry.method != kDeflated || packed.empty()) return {};
        std::string text(static_cast<std::size_t>(entry.bytes), '\0');
        std::size_t got = 0;
        const auto result = ::libdeflate_deflate_decompress(inflater_.get(), packed.data(), packed.size(), text.data(),
                                                            text.size(), &got);
        return result == LIBDEFLATE_SUCCESS && got == text.size() ? text : std::string();
    }

    bool add_pom(std::string_view text) {
        std::map<std::string, std::string, std::less<>> values;
        while (!text.empty()) {
            std::string_view line = text.substr(0, text.find('\n'));
            text.remove_prefix(std::min(line.size() + 1, text.size()));
            line = trim(line);
            const auto [key, value] = cut(line, '=');
            if (!value || line.front() == '#' || key.size() > 100 || values.size() > 100) continue;
            values[std::string(trim(key))] = trim(value->substr(0, kMaxField));
        }
        Package package = detail::package_of("maven", values["artifactId"], values["version"]);
        package.space = values["groupId"];
        if (package.name.empty() || package.version.empty() || package.space.empty()) return false;
        found_.push_back(std::move(package));
        return true;
    }

    // Without Maven's word for it, from what the manifest and the name of the file say.
    void add_manifest(const std::map<std::string, std::string, std::less<>>& manifest, std::string_view path) {
        const auto get = [&](const char* key) {
            const auto at = manifest.find(key);
            return at == manifest.end() ? std::string() : at->second.substr(0, at->second.find(';'));
        };
        const Coordinates file = from_file_name(path);
        const std::string bundle = get("Bundle-SymbolicName");
        std::string version = file.version;
        for (const char* key : {"Implementation-Version", "Bundle-Version", "Specification-Version"}) {
            if (version.empty()) version = get(key);
        }
        if (version.empty() || file.name.empty()) return;
        Package package = detail::package_of("maven", file.name, version);
        package.space = get("Implementation-Vendor-Id");
        // "org.slf4j.api": what is before the last part.
        if (package.space.empty()) package.space = bundle.substr(0, std::min(bundle.rfind('.'), bundle.size()));
        if (package.space.find_first_of(" /") != std::string::npos || package.space == bundle) package.space.clear();
        const std::string license = get("Bundle-License");
        if (license.size() <= 100 && license.find("://") == std::string::npos) package.license = license;
        found_.push_back(std::move(package));
    }

    std::uint64_t& budget_;
    std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)> inflater_;
    std::vector<Package> found_;
};

}  // namespace

bool is_java_archive(std::string_view name) {
    static constexpr std::string_view kEnds[] = {".jar", ".war", ".ear", ".nar", ".hpi", ".jpi"};
    return std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); });
}

std::vector<Package> read_java_archive(int file, std::uint64_t size, std::string_view path, std::uint64_t& budget) {
    const ReadAt read_at = [file, size](std::uint64_t offset, std::size_t wanted) {
        return offset <= size && size - offset >= wanted ? detail::read_text(file, offset, wanted) : std::string();
    };
    JavaReader reader(budget);
    reader.read(read_at, size, path, 0);
    return reader.take();
}

}  // namespace cooper::attest
