// Cache mounts from outside a build: listed, removed, carried to another machine.
#include "base/text.hpp"
#include "codec/compression.hpp"
#include "engine/local_engine.hpp"
#include "exporter/file_tree.hpp"
#include "layer/apply.hpp"
#include "snapshot/chain_view.hpp"

#include <algorithm>
#include <fcntl.h>

namespace cooper::engine {

namespace {

// The Dockerfile's ids are below a name space, which is empty unless BUILDKIT_CACHE_MOUNT_NS says otherwise: "/ID".
std::string shown(const std::string& key) { return key.starts_with('/') && key.size() > 1 ? key.substr(1) : key; }

Result<std::string> key_of(store::Store& store, const std::string& id) {
    std::vector<std::string> known;
    for (const auto& mount : TRY(store.cache_mounts())) {
        if (mount.key == id || shown(mount.key) == id) return mount.key;
        known.push_back(shown(mount.key));
    }
    const auto near = nearest(id, known);
    return fail(Code::not_found, Blame::user, "no cache mount {}{}", quoted(id),
                near ? fmt::format(", did you mean {}?", *near) : std::string())
        .with_hint("cooper cache ls lists them; the id is the target where RUN names none");
}

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
    const auto known = key_of(*store_, id);
    const std::string key = known ? *known : "/" + id;
    TRY(store_->clear_cache_mounts(key, stop));
    store::CacheMount mount = TRY(store_->acquire_cache_mount(
        key, store::Sharing::locked, fmt::format("imported cache mount with id {}", quoted(id)), stop));
    // Until it is marked it is thrown away by the next who wants it.
    const auto directory = TRY(sys::RootedDir::open_host(mount.host_path()));
    TRY_CONTEXT(layer::apply_layer_tar(*tar.source, directory, apply_limits(config_, *store_), stop), "cache mount {}",
                id);
    return mount.mark_seeded();
}

}  // namespace cooper::engine
