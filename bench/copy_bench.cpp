// Pieces of COPY, timed one at a time: copy_bench hash|rehash|copy|relink|link|walk SOURCE WORK
//   walk    getdents and fstatat of every name, in plain calls: the floor for "nothing changed"
//   hash    digest of SOURCE, nothing remembered; remembers in WORK/stats
//   rehash  digest of SOURCE with what WORK/stats remembers
//   copy    hash, then COPY . / into WORK/layer, with a manifest WORK/manifest
//   relink  rehash, then COPY . / into WORK/layer2, linking what WORK/layer already has
//   link    COPY --from of WORK/layer (a committed layer) into WORK/layer3
// Prints milliseconds per phase and peak memory. WORK must be on the same file system as the state directory would be.
#include "layer/copy.hpp"
#include "snapshot/dir_entries.hpp"
#include "source/local.hpp"

#include <chrono>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace cooper;  // NOLINT: a small program of its own
using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

std::size_t plain_walk(int dir_fd) {
    std::size_t count = 0;
    DIR* dir = ::fdopendir(dir_fd);
    while (const dirent* entry = ::readdir(dir)) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == "..") continue;
        struct stat st{};
        ::fstatat(::dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
        ++count;
        if (S_ISDIR(st.st_mode)) count += plain_walk(::openat(::dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY));
    }
    ::closedir(dir);
    return count;
}

Result<> copy_into(const snapshot::TreeRef& tree, const std::string& path, layer::TreeDigester* hashed,
                   const layer::EarlierCopy* earlier, layer::CopyManifest* manifest) {
    ::mkdir(path.c_str(), 0755);
    auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(sys::RootedDir::open_host(path))));
    const layer::CopyOptions options{.source = "/",
                                     .destination = "/",
                                     .dir_copy_contents = true,
                                     .create_dest_path = true,
                                     .hashed = hashed,
                                     .earlier = earlier,
                                     .manifest = manifest};
    TRY(layer::copy(tree, *builder, options, {}));
    TRY(builder->finish());
    const auto written = builder->written();
    fmt::print("files {} linked {} bytes {}\n", written.files, written.linked, written.bytes);
    return {};
}

Result<snapshot::TreeRef> layer_tree(const std::string& path) {
    auto layers = TRY(snapshot::open_layers({{1, path}}));
    return snapshot::TreeRef(
        TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::committed)));
}

Result<> run(const std::string& what, const std::string& source, const std::string& work) {
    auto start = Clock::now();
    if (what == "walk") {
        const std::size_t names = plain_walk(::open(source.c_str(), O_RDONLY | O_DIRECTORY));
        fmt::print("walk {:.1f} ms, {} names\n", since(start), names);
        return {};
    }
    if (what == "link") {
        const auto from = TRY(layer_tree(work + "/layer"));
        TRY(copy_into(from, work + "/layer3", nullptr, nullptr, nullptr));
        fmt::print("link {:.1f} ms\n", since(start));
        return {};
    }
    if (what == "hash" || what == "copy") ::unlink((work + "/stats").c_str());
    auto context = TRY(source::LocalContext::open({.host_path = source, .stat_cache_file = work + "/stats"}));
    const Digest digest = TRY(context->digest({}, {}));
    const auto counters = context->digester().counters();
    fmt::print("digest {:.1f} ms, {} files read, {} stats: {}\n", since(start), counters.files_read, counters.stats,
               digest.short_hex());
    start = Clock::now();
    TRY(context->save());
    fmt::print("save {:.1f} ms\n", since(start));
    start = Clock::now();
    layer::CopyManifest manifest;
    if (what == "copy") {
        TRY(copy_into(context->tree(), work + "/layer", &context->digester(), nullptr, &manifest));
        fmt::print("copy {:.1f} ms\n", since(start));
        TRY(manifest.table().save(work + "/manifest", "manifest"));
    }
    if (what == "relink") {
        layer::EarlierCopy earlier;
        earlier.layer = TRY(layer_tree(work + "/layer"));
        earlier.manifest = layer::DigestTable::load(work + "/manifest", "manifest");
        TRY(copy_into(context->tree(), work + "/layer2", &context->digester(), &earlier, &manifest));
        fmt::print("relink {:.1f} ms\n", since(start));
    }
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        fmt::print(stderr, "usage: copy_bench walk|hash|rehash|copy|relink|link SOURCE WORK\n");
        return 2;
    }
    const auto result = run(argv[1], argv[2], argv[3]);
    if (!result) {
        fmt::print(stderr, "{}\n", result.error().to_string());
        return 1;
    }
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    fmt::print("peak {} MB\n", usage.ru_maxrss / 1024);
    return 0;
}
