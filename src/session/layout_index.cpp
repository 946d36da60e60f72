#include "session/layout_index.hpp"

#include "base/text.hpp"
#include "oci/manifest.hpp"
#include "sys/file_lock.hpp"
#include "sys/rooted_dir.hpp"

#include <algorithm>
#include <ctime>
#include <fcntl.h>
#include <fmt/format.h>
#include <optional>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

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

constexpr const char* kLock = "index.json.lock";
constexpr std::int64_t kSparedSeconds = 3'600;

Result<sys::FileLock> lock_index(const sys::RootedDir& dir) {
    return sys::FileLock::acquire_at(dir.fd(), kLock, sys::LockMode::exclusive, Stop{});
}

// What a write that nobody goes on with has left.
bool is_stale(const sys::RootedDir& dir, const std::string& name) {
    struct stat st{};
    return ::fstatat(dir.fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
           st.st_mtim.tv_sec < ::time(nullptr) - kSparedSeconds;
}

void remove_stale_ingests(const sys::RootedDir& dir) {
    const auto ingests = dir.open_dir("ingest");
    const auto entries = ingests ? sys::list_dir(ingests->fd()) : ingests.error();
    if (!entries) return;
    for (const auto& entry : *entries) {
        if (is_stale(*ingests, entry.name)) ::unlinkat(ingests->fd(), entry.name.c_str(), 0);
    }
    ::unlinkat(dir.fd(), "ingest", AT_REMOVEDIR);  // others may be writing
}

// What a manifest or an index leads to; nullopt when it is neither, or cannot be read.
struct Leads {
    std::vector<oci::Descriptor> to;
    bool is_cache = false;
};

bool is_cache_type(std::string_view type) {
    return type == "application/vnd.buildkit.cacheconfig.v0" || type.starts_with("application/vnd.cooper.");
}

std::optional<Leads> leads_of(const sys::RootedDir& dir, const Digest& digest) {
    const auto text = dir.read_file("blobs/sha256/" + digest.hex(), kMaxIndex);
    if (!text || digest.algorithm() != Digest::Algorithm::sha256) return std::nullopt;
    Leads leads;
    const auto add = [&](const oci::Descriptor& one) {
        leads.is_cache = leads.is_cache || is_cache_type(one.media_type);
        leads.to.push_back(one);
    };
    if (const auto manifest = oci::parse_manifest(*text, "")) {
        add(manifest->config);
        leads.to.insert(leads.to.end(), manifest->layers.begin(), manifest->layers.end());
        if (manifest->subject) leads.to.push_back(*manifest->subject);
        return leads;
    }
    const auto index = oci::parse_index(*text, "");
    if (!index) return std::nullopt;
    for (const auto& one : index->manifests) add(one);
    if (index->subject) leads.to.push_back(*index->subject);
    return leads;
}

bool is_manifest_type(std::string_view type) {
    return type.ends_with("manifest.v1+json") || type.ends_with("manifest.v2+json") ||
           type.ends_with("index.v1+json") || type.ends_with("manifest.list.v2+json");
}

Result<> write_file(const sys::RootedDir& dir, const std::string& name, std::string_view text) {
    const std::string temporary = fmt::format("{}.{}.tmp", name, ::getpid());
    sys::Fd file = TRY(dir.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, sys::Follow::no, 0644));
    TRY(sys::write_all(file.get(), text));
    TRY(std::move(file).close());
    if (::renameat(dir.fd(), temporary.c_str(), dir.fd(), name.c_str()) != 0) return fail_errno(errno, name);
    return {};
}

}  // namespace

Result<> name_in_layout(const std::string& directory, oci::Descriptor descriptor, const std::string& name) {
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(directory));
    const auto lock = TRY_CONTEXT(lock_index(dir), "{}", directory);
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
    remove_stale_ingests(dir);
    return {};
}

Result<> sweep_layout(const std::string& directory) {
    const sys::RootedDir dir = TRY(sys::RootedDir::open_host(directory));
    const auto lock = TRY_CONTEXT(lock_index(dir), "{}", directory);
    const std::string text = TRY_CONTEXT(dir.read_file("index.json", kMaxIndex), "{}", directory);
    oci::Index index = TRY_CONTEXT(oci::parse_index(text, ""), "{}/index.json", directory);
    const std::size_t before = index.manifests.size();
    std::erase_if(index.manifests, [&](const oci::Descriptor& one) {
        if (one.annotations.contains(kRefName)) return false;
        const auto leads = leads_of(dir, one.digest);
        return leads && leads->is_cache;
    });
    std::set<std::string> reached;
    std::vector<oci::Descriptor> pending = index.manifests;
    while (!pending.empty()) {
        const oci::Descriptor one = std::move(pending.back());
        pending.pop_back();
        if (!reached.insert(one.digest.hex()).second || !is_manifest_type(one.media_type)) continue;
        const auto leads = leads_of(dir, one.digest);
        if (!leads) return {};  // what it leads to nobody knows: all stays
        pending.insert(pending.end(), leads->to.begin(), leads->to.end());
    }
    if (index.manifests.size() != before)
        TRY_CONTEXT(write_file(dir, "index.json", oci::marshal_index(index)), "{}", directory);
    const sys::RootedDir blobs = TRY_CONTEXT(dir.open_dir("blobs/sha256"), "{}", directory);
    for (const auto& entry : TRY(sys::list_dir(blobs.fd()))) {
        // ".HEX.PID" is of a writer that was killed.
        if (!reached.contains(entry.name) && is_stale(blobs, entry.name)) ::unlinkat(blobs.fd(), entry.name.c_str(), 0);
    }
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
