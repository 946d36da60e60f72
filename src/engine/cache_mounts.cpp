// Cache mounts from outside a build: listed, removed, carried to another machine.
#include "base/text.hpp"
#include "codec/compression.hpp"
#include "engine/local_engine.hpp"
#include "engine/mount_key.hpp"
#include "exporter/file_tree.hpp"
#include "layer/apply.hpp"
#include "snapshot/chain_view.hpp"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>

namespace cooper::engine {

namespace {

Result<std::string> key_of(store::Store& store, const std::string& id) {
    std::vector<std::string> known;
    std::set<std::string> alike;  // of one that begins with content the id alone will do
    for (const auto& mount : TRY(store.cache_mounts())) {
        if (mount.key == id || shown_mount(mount.key) == id) return mount.key;
        const std::string_view plain = mount_without_content(mount.key);
        if (plain == id || shown_mount(plain) == id) alike.insert(mount.key);
        known.push_back(shown_mount(mount.key));
    }
    if (alike.size() == 1) return *alike.begin();
    if (alike.size() > 1) {
        return fail(Code::failed_precondition, Blame::user, "{} cache mounts have the id {}", alike.size(), quoted(id))
            .with_hint("name one as cooper cache ls shows it");
    }
    const auto near = nearest(id, known);
    return fail(Code::not_found, Blame::user, "no cache mount {}{}", quoted(id),
                near ? fmt::format(", did you mean {}?", *near) : std::string())
        .with_hint("cooper cache ls lists them; the id is the target where RUN names none");
}

class CountedSource final : public ByteSource {
public:
    explicit CountedSource(ByteSource& source) : source_(source) {}
    Result<std::size_t> read(std::span<std::byte> buffer) override {
        const std::size_t got = TRY(source_.read(buffer));
        count_ += got;
        return got;
    }
    [[nodiscard]] std::uint64_t count() const { return count_; }

private:
    ByteSource& source_;
    std::uint64_t count_ = 0;
};

}  // namespace

Result<std::vector<Engine::CacheMountRow>> LocalEngine::cache_mounts() {
    std::vector<CacheMountRow> rows;
    for (auto& mount : TRY(store_->cache_mounts())) {
        rows.push_back(
            {std::move(mount.key), std::move(mount.description), mount.size_bytes, mount.usage_count, mount.last_used});
    }
    return rows;
}

Result<> LocalEngine::remove_cache_mount(const std::string& id, Stop stop) {
    return store_->clear_cache_mounts(TRY(key_of(*store_, id)), stop);
}

Result<> LocalEngine::export_cache_mount(const std::string& id, int out_fd, Stop stop) {
    const std::string key = TRY(key_of(*store_, id));
    const store::CacheMount mount =
        TRY(store_->acquire_cache_mount(key, store::Sharing::locked, "exported cache mount", stop));
    std::vector<snapshot::LayerDir> layers;
    layers.push_back({0, TRY(sys::RootedDir::open_host(mount.host_path()))});
    const auto tree = TRY(snapshot::ChainView::create(std::move(layers), snapshot::ChainView::TopLayer::in_work));
    NullProgress silent;
    VertexProgress progress(silent, Digest{}, clock_);
    TRY(exporter::export_tar(*tree, out_fd, {}, progress, stop));
    return {};
}

Result<> LocalEngine::import_cache_mount(const std::string& id, int in_fd, Stop stop) {
    if (id.empty()) return bad_input("a cache mount needs an id");
    sys::Fd copy(::fcntl(in_fd, F_DUPFD_CLOEXEC, 3));
    if (!copy.valid()) return fail_errno(errno, "read the archive");
    const auto tar = TRY(codec::decompress_any(std::make_unique<sys::FdSource>(std::move(copy))));
    // What is there goes when the other is whole.
    const std::string fresh = TRY(store_->scratch_dir());
    const auto directory = TRY(sys::RootedDir::open_host(fresh));
    if (::fchmod(directory.fd(), 0755) != 0) return fail_errno(errno, "set the mode of a cache mount");
    CountedSource counted(*tar.source);
    TRY_CONTEXT(layer::apply_layer_tar(counted, directory, apply_limits(config_, *store_), stop), "cache mount {}", id);
    if (counted.count() == 0) {
        return bad_input("cache mount {}: the archive is empty", id)
            .with_hint("has the command that writes it failed? cooper cache rm empties a mount");
    }
    const auto known = key_of(*store_, id);
    if (!known && known.error().code() != Code::not_found) return known.error();
    const std::string key = known ? *known : "/" + id;
    TRY(store_->clear_cache_mounts(key, stop));
    store::CacheMount mount = TRY(store_->acquire_cache_mount(
        key, store::Sharing::locked, fmt::format("imported cache mount with id {}", quoted(id)), stop));
    // Until it is marked it is thrown away by the next who wants it.
    if (::rename(fresh.c_str(), mount.host_path().c_str()) != 0) return fail_errno(errno, "keep a cache mount");
    return mount.mark_seeded();
}

}  // namespace cooper::engine
