#include "attest/find_packages.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "sys/fd.hpp"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <memory>
#include <openssl/evp.h>
#include <set>
#include <sys/stat.h>

namespace cooper::attest {

namespace {

constexpr std::size_t kMaxDatabase = std::size_t{256} << 20U;
constexpr std::size_t kMaxMetadata = std::size_t{1} << 20U;
constexpr std::size_t kMaxLists = std::size_t{8} << 20U;  // of other package managers, in JSON
// Of all archives of Java's of one image, what is unpacked.
constexpr std::uint64_t kMaxJavaBytes = std::uint64_t{8} << 30U;
constexpr std::size_t kMaxEntries = 10'000'000;
constexpr std::size_t kMaxDepth = 200;

// One file with many packages, which each step that installs some writes anew.
struct Database {
    const char* path;
    std::vector<Package> (*parse)(std::string_view text, const OsRelease& os);
};
constexpr Database kDatabases[] = {
    {"var/lib/dpkg/status", parse_dpkg},
    {"lib/apk/db/installed", parse_apk},
    {"usr/lib/apk/db/installed", parse_apk},
    {"var/lib/rpm/rpmdb.sqlite", parse_rpm_sqlite},
    {"usr/lib/sysimage/rpm/rpmdb.sqlite", parse_rpm_sqlite},
    {"var/lib/rpm/Packages.db", parse_rpm_ndb},
    {"usr/lib/sysimage/rpm/Packages.db", parse_rpm_ndb},
    {"var/lib/rpm/Packages", parse_rpm_bdb},
    {"usr/lib/sysimage/rpm/Packages", parse_rpm_bdb},
};

std::optional<std::string> read_small(const snapshot::Directory& directory, const std::string& name,
                                      const snapshot::Node& node, std::size_t limit) {
    if (node.size > limit) return std::nullopt;
    const auto file = directory.open_file(name, node);
    if (!file) return std::nullopt;
    std::string text(static_cast<std::size_t>(node.size), '\0');
    std::size_t done = 0;
    while (done < text.size()) {
        const auto got = sys::read_some(file->get(), std::as_writable_bytes(std::span(text).subspan(done)));
        if (!got) return std::nullopt;
        if (*got == 0) break;
        done += *got;
    }
    text.resize(done);
    return text;
}

bool add_digests(int file, Evidence& evidence) {
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> sha1(::EVP_MD_CTX_new(), ::EVP_MD_CTX_free);
    if (sha1 == nullptr || ::EVP_DigestInit_ex(sha1.get(), ::EVP_sha1(), nullptr) != 1) return false;
    codec::Sha256 sha256;
    std::vector<std::byte> buffer(std::size_t{256} << 10U);
    while (true) {
        const auto got = sys::read_some(file, buffer);
        if (!got) return false;
        if (*got == 0) break;
        sha256.update(std::span(buffer).first(*got));
        if (::EVP_DigestUpdate(sha1.get(), buffer.data(), *got) != 1) return false;
    }
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned int size = 0;
    if (::EVP_DigestFinal_ex(sha1.get(), bytes.data(), &size) != 1) return false;
    evidence.sha1 = to_hex(std::span<const std::uint8_t>(bytes).first(size));
    evidence.sha256 = sha256.finish();
    return true;
}

class Finder {
public:
    Finder(const snapshot::Tree& tree, const std::vector<snapshot::LayerDir>& layers, const Stop& stop)
        : tree_(tree), layers_(layers), stop_(stop) {}

    Result<Inventory> run() {
        for (const char* path : {"/etc/os-release", "/usr/lib/os-release"}) {
            if (!out_.os.id.empty()) break;
            const auto text = tree_.read_file(path, kMaxMetadata);
            if (text && *text) out_.os = parse_os_release(**text);
        }
        for (const auto& database : kDatabases) TRY(read_database(database));
        TRY(walk(TRY(tree_.root()), "", 0));
        std::ranges::sort(out_.packages);
        const auto doubles = std::ranges::unique(out_.packages);
        out_.packages.erase(doubles.begin(), doubles.end());
        std::ranges::sort(out_.evidence);
        const auto same = std::ranges::unique(out_.evidence);
        out_.evidence.erase(same.begin(), same.end());
        return std::move(out_);
    }

private:
    // The topmost layer that has the file.
    [[nodiscard]] std::optional<std::size_t> layer_of(const std::string& path) const {
        for (std::size_t i = layers_.size(); i > 0; --i) {
            const auto st = layers_[i - 1].dir.stat(path, sys::Follow::no);
            if (st && S_ISREG(st->st_mode)) return i - 1;
        }
        return std::nullopt;
    }

    void add(Package package, const std::string& path, std::optional<std::size_t> layer) {
        if (out_.packages.size() >= kMaxPackages) {
            if (!full_) out_.limits.push_back(fmt::format("more than {} packages", kMaxPackages));
            full_ = true;
            return;
        }
        package.path = path;
        package.layer = layer;
        out_.packages.push_back(std::move(package));
    }
    void note(const std::string& path, std::optional<std::size_t> layer) {
        Evidence evidence{.path = path, .layer = layer, .sha1 = {}, .sha256 = {}};
        const auto found = tree_.find("/" + path, snapshot::FollowLast::no);
        if (!found || !*found) return;
        const auto file = (*found)->parent->open_file((*found)->name, (*found)->node);
        if (file && add_digests(file->get(), evidence)) out_.evidence.push_back(std::move(evidence));
    }

    // A package is of the lowest layer from which on every version of the file has it.
    Result<> read_database(const Database& database) {
        const std::string path = database.path;
        const auto found = tree_.find("/" + path, snapshot::FollowLast::no);
        if (!found || !*found || (*found)->node.kind != snapshot::Kind::file) return {};
        const snapshot::Found& file = **found;
        // Through a link from another place it is read where it is.
        if (file.path != "/" + path && file.path.ends_with(path)) return {};
        if (file.node.size > kMaxDatabase) {
            out_.limits.push_back("/" + path + " is too large");
            return {};
        }
        const auto text = read_small(*file.parent, file.name, file.node, kMaxDatabase);
        if (!text) return {};
        std::vector<Package> packages = database.parse(*text, out_.os);
        if (packages.empty()) return {};
        const std::string real = file.path.substr(1);
        std::vector<std::pair<std::size_t, std::set<Package>>> versions;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            TRY(check_stop(stop_));
            const auto old = layers_[i].dir.stat(real, sys::Follow::no);
            if (!old || !S_ISREG(old->st_mode)) continue;
            const auto bytes = layers_[i].dir.read_file(real, kMaxDatabase);
            if (!bytes) continue;
            const std::vector<Package> had = database.parse(*bytes, out_.os);
            versions.emplace_back(i, std::set<Package>(had.begin(), had.end()));
        }
        note(real, versions.empty() ? std::nullopt : std::optional(versions.back().first));
        for (auto& package : packages) {
            std::optional<std::size_t> layer;
            for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
                if (!version->second.contains(package)) break;
                layer = version->first;
            }
            if (package.type == "deb") package.license = debian_license(package.name);
            add(std::move(package), real, layer);
        }
        return {};
    }

    std::string debian_license(const std::string& name) {
        if (name.find('/') != std::string::npos) return {};
        const auto text = tree_.read_file("/usr/share/doc/" + name + "/copyright", kMaxMetadata);
        return text && *text ? parse_debian_copyright(**text) : std::string();
    }

    Result<> walk(const snapshot::DirectoryRef& directory, const std::string& path, std::size_t depth) {
        TRY(check_stop(stop_));
        for (const auto& entry : TRY(directory->list())) {
            if (++entries_ > kMaxEntries || depth > kMaxDepth) {
                if (!cut_) out_.limits.push_back("more files, or deeper ones, than are looked at");
                cut_ = true;
                return {};
            }
            const std::string below = path.empty() ? entry.name : path + "/" + entry.name;
            if (entry.kind == snapshot::Kind::directory) {
                if (is_kernel_tree(below)) continue;
                TRY(walk(TRY(directory->open_dir(entry.name)), below, depth + 1));
            } else if (entry.kind == snapshot::Kind::file) {
                look_at(*directory, entry, path, below);
            }
        }
        return {};
    }
    static bool is_kernel_tree(std::string_view path) { return path == "proc" || path == "sys" || path == "dev"; }

    void look_at(const snapshot::Directory& directory, const snapshot::Entry& entry, const std::string& folder,
                 const std::string& path) {
        const std::string& name = entry.name;
        const std::size_t slash = folder.rfind('/');
        const std::string_view parent = std::string_view(folder).substr(slash == std::string::npos ? 0 : slash + 1);
        if (folder == "var/lib/dpkg/status.d" && !name.ends_with(".md5sums")) {
            with_text(directory, entry, kMaxMetadata, [&](std::string_view text) {
                std::vector<Package> packages = parse_dpkg(text, out_.os);
                for (auto& package : packages) package.license = debian_license(package.name);
                put(std::move(packages), path);
            });
        } else if ((parent.ends_with(".dist-info") && name == "METADATA") ||
                   ((parent.ends_with(".egg-info") || parent == "EGG-INFO") && name == "PKG-INFO") ||
                   name.ends_with(".egg-info")) {
            with_text(directory, entry, kMaxMetadata, [&](std::string_view text) { put(parse_python(text), path); });
        } else if (name == "package.json" && is_npm(folder)) {
            with_text(directory, entry, kMaxMetadata, [&](std::string_view text) { put(parse_npm(text), path); });
        } else if (name.ends_with(".gemspec") && parent == "specifications") {
            with_text(directory, entry, kMaxMetadata, [&](std::string_view text) { put(parse_gem(text, name), path); });
        } else if (name.ends_with(".deps.json")) {
            with_text(directory, entry, kMaxLists, [&](std::string_view text) { put(parse_dotnet_deps(text), path); });
        } else if (name == "installed.json" && parent == "composer") {
            with_text(directory, entry, kMaxLists, [&](std::string_view text) { put(parse_composer(text), path); });
        } else if (is_java_archive(name)) {
            look_into_java(directory, entry, path);
        } else {
            look_into_program(directory, entry, path);
        }
    }

    void look_into_java(const snapshot::Directory& directory, const snapshot::Entry& entry, const std::string& path) {
        const auto node = directory.stat(entry);
        if (!node) return;
        const auto file = directory.open_file(entry.name, *node);
        if (file) put(read_java_archive(file->get(), node->size, path, java_budget_), path);
        if (java_budget_ > 0 || java_cut_) return;
        out_.limits.push_back("archives of Java's unpack to more than is looked at");
        java_cut_ = true;
    }

    void look_into_program(const snapshot::Directory& directory, const snapshot::Entry& entry,
                           const std::string& path) {
        const auto node = directory.stat(entry);
        if (!node || (node->mode & 0111U) == 0 || node->size < 4096) return;
        const auto file = directory.open_file(entry.name, *node);
        if (!file) return;
        if (const auto build = read_go_build(file->get())) {
            std::vector<Package> packages = parse_go_modules(build->modules);
            packages.push_back({.type = "golang",
                                .space = {},
                                .name = "stdlib",
                                .version = build->version.starts_with("go") ? build->version.substr(2) : build->version,
                                .architecture = {},
                                .license = {},
                                .distro = {},
                                .path = {},
                                .layer = {}});
            put(std::move(packages), path);
        } else if (const std::string crates = read_rust_build(file->get()); !crates.empty()) {
            put(parse_rust_crates(crates), path);
        }
    }

    // "node_modules/NAME" or "node_modules/@SCOPE/NAME"
    static bool is_npm(std::string_view folder) {
        const std::size_t at = folder.rfind("node_modules/");
        if (at == std::string_view::npos || (at > 0 && folder[at - 1] != '/')) return false;
        const std::string_view name = folder.substr(at + 13);
        const std::size_t slash = name.find('/');
        if (slash == std::string_view::npos) return true;
        return name.starts_with('@') && name.find('/', slash + 1) == std::string_view::npos;
    }

    template <class Use>
    void with_text(const snapshot::Directory& directory, const snapshot::Entry& entry, std::size_t limit, Use use) {
        const auto node = directory.stat(entry);
        if (!node) return;
        if (const auto text = read_small(directory, entry.name, *node, limit)) use(std::string_view(*text));
    }
    void put(std::optional<Package> package, const std::string& path) {
        if (package) put(std::vector{std::move(*package)}, path);
    }
    void put(std::vector<Package> packages, const std::string& path) {
        if (packages.empty()) return;
        const auto layer = layer_of(path);
        note(path, layer);
        for (auto& package : packages) add(std::move(package), path, layer);
    }

    const snapshot::Tree& tree_;
    const std::vector<snapshot::LayerDir>& layers_;
    const Stop& stop_;
    Inventory out_;
    std::size_t entries_ = 0;
    std::uint64_t java_budget_ = kMaxJavaBytes;
    bool java_cut_ = false;
    bool full_ = false;
    bool cut_ = false;
};

}  // namespace

Result<Inventory> find_packages(const snapshot::Tree& tree, const std::vector<snapshot::LayerDir>& layers,
                                const Stop& stop) {
    return Finder(tree, layers, stop).run();
}

}  // namespace cooper::attest
