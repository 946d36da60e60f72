#include "session/layout_index.hpp"

#include "base/text.hpp"
#include "oci/manifest.hpp"
#include "sys/rooted_dir.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace cooper::session {

namespace {

constexpr std::size_t kMaxIndex = 16UL << 20U;
constexpr const char* kRefName = "org.opencontainers.image.ref.name";
// What stands beside a cache has its tag and then: cache mounts, records of steps.
bool is_beside(std::string_view name, const std::string& tag) {
    if (!name.starts_with(tag)) return false;
    name.remove_prefix(tag.size());
    return name.starts_with("-mounts.") || name == "-steps";
}

constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";

Result<> write_file(const sys::RootedDir& dir, const std::string& name, std::string_view text) {
    const std::string temporary = name + ".tmp";
    sys::Fd file = TRY(dir.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0644));
    TRY(sys::write_all(file.get(), text));
    TRY(std::move(file).close());
    if (::renameat(dir.fd(), temporary.c_str(), dir.fd(), name.c_str()) != 0) return fail_errno(errno, name);
    return {};
}

}  // namespace

Result<> name_in_layout(const std::string& directory, oci::Descriptor descriptor, const std::string& name) {
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(directory));
    oci::Index index;
    index.media_type = kIndexType;
    if (const auto text = dir.read_file("index.json", kMaxIndex)) {
        index = TRY_CONTEXT(oci::parse_index(*text, ""), "{}/index.json", directory);
    }
    std::erase_if(index.manifests, [&](const oci::Descriptor& one) {
        const auto found = one.annotations.find(kRefName);
        return one.digest == descriptor.digest && (found == one.annotations.end() || found->second == name);
    });
    if (!name.empty()) {
        for (oci::Descriptor& one : index.manifests) {
            const auto found = one.annotations.find(kRefName);
            if (found != one.annotations.end() && found->second == name) one.annotations.erase(found);
        }
        descriptor.annotations[kRefName] = name;
    }
    index.manifests.push_back(std::move(descriptor));
    TRY_CONTEXT(write_file(dir, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"), "{}", directory);
    TRY_CONTEXT(write_file(dir, "index.json", oci::marshal_index(index)), "{}", directory);
    TRY(dir.remove_all("ingest"));
    return {};
}

Result<std::string> digest_in_layout(const std::string& directory, const std::string& tag) {
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(directory));
    const std::string text = TRY_CONTEXT(dir.read_file("index.json", kMaxIndex), "{}", directory);
    const oci::Index index = TRY_CONTEXT(oci::parse_index(text, ""), "{}/index.json", directory);
    for (const oci::Descriptor& one : index.manifests) {
        const auto name = one.annotations.find(kRefName);
        if (name != one.annotations.end() && name->second == tag) return one.digest.to_string();
    }
    if (tag == "latest" && index.manifests.size() == 1) return index.manifests[0].digest.to_string();
    return fail(Code::not_found, Blame::user, "{} has no image with the tag {}", directory, quoted(tag));
}

Result<std::map<std::string, std::string>> digests_beside(const std::string& directory, const std::string& tag) {
    std::map<std::string, std::string> digests;
    const auto dir = sys::RootedDir::open_host(directory);
    if (!dir) return digests;
    const auto text = dir->read_file("index.json", kMaxIndex);
    if (!text) return digests;
    const oci::Index index = TRY_CONTEXT(oci::parse_index(*text, ""), "{}/index.json", directory);
    for (const oci::Descriptor& one : index.manifests) {
        const auto name = one.annotations.find(kRefName);
        if (name == one.annotations.end() || !is_beside(name->second, tag)) continue;
        digests["digest." + name->second.substr(tag.size() + 1)] = one.digest.to_string();
    }
    return digests;
}

std::string answer_key_beside(const std::string& directory, const std::string& name) {
    return "cache.manifest:" + directory + ":" + name;
}

Result<> name_beside(const std::string& directory, const std::string& tag,
                     const std::map<std::string, std::string>& answer) {
    const std::string prefix = answer_key_beside(directory, "");
    for (auto it = answer.lower_bound(prefix); it != answer.end() && it->first.starts_with(prefix); ++it) {
        const std::string name = tag + "-" + it->first.substr(prefix.size());
        if (!is_beside(name, tag)) continue;
        TRY(name_in_layout(directory, TRY(oci::parse_descriptor(it->second)), name));
    }
    return {};
}

}  // namespace cooper::session
